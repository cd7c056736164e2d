package gitrepo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/file"
)

// remote is the other end: where it is, how to get in, and what to call it.
type remote struct {
	endpoint transport.Endpoint // without credentials
	client   transport.Transport
	auth     transport.AuthMethod
	name     string // for errors and as the mirror's identity; no credentials
	redact   *redactor
	config   *config.Config // of a repository given as a path
	idle     func()         // closes idle connections
	patience time.Duration  // with a remote that is silent
}

// newRemote understands what the user gave as --repo.
func newRemote(o Options) (*remote, error) {
	if o.URL == "" {
		return nil, &OptionError{Repository: `""`, Reason: "no URL or path is given", hint: "give the URL or the path of a Git repository"}
	}
	scheme, rest, isURL := cutScheme(o.URL)
	scheme = strings.ToLower(scheme)
	switch {
	case isURL && scheme == "file":
		return newFileRemote(o, strings.TrimPrefix(rest, "localhost"))
	case isURL && (scheme == "https" || scheme == "http" || scheme == "ssh"):
		return newNetworkRemote(o, scheme)
	case isURL:
		return nil, &OptionError{Repository: displayURL(o.URL), Reason: fmt.Sprintf("scheme %q is not supported", printable(scheme, 20)), hint: "use https, ssh or file"}
	case isSCP(o.URL):
		return newNetworkRemote(o, "ssh")
	case strings.Contains(o.URL, "://"):
		return nil, &OptionError{Repository: displayURL(o.URL), Reason: "what stands before :// is no scheme", hint: "use https, ssh or file"}
	}
	return newFileRemote(o, o.URL)
}

// isSCP says whether s is user@host:path. As with git, a slash before the
// colon makes it a path, and so does its existence.
func isSCP(s string) bool {
	host, _, ok := strings.Cut(s, ":")
	if !ok || host == "" || strings.ContainsAny(host, `/\`) {
		return false
	}
	_, err := os.Stat(s)
	return err != nil
}

func newNetworkRemote(o Options, scheme string) (*remote, error) {
	name := displayURL(o.URL)
	ep, err := transport.NewEndpoint(o.URL)
	if err != nil {
		// The error is left out: it quotes the URL, and a password may be what confuses it.
		return nil, &OptionError{Repository: name, Reason: "the URL cannot be parsed",
			hint: "write special characters of a user name or password as %XX, or give them apart from the URL"}
	}
	if ep.Host == "" || strings.HasPrefix(ep.Host, "-") {
		return nil, &OptionError{Repository: name, Reason: "the URL has no host"}
	}
	if strings.Contains(ep.Path, "@") {
		// More often than a name with an @ it is a password with a slash, of which a part now passes for the host.
		return nil, &OptionError{Repository: name, Reason: "the URL has an @ behind its first slash",
			hint: "write special characters of a user name or password as %XX, or give them apart from the URL; an @ in the path is %40"}
	}
	if scheme == "ssh" && strings.Contains(ep.User, ":") {
		return nil, &OptionError{Repository: name, Reason: "the user name has a colon in it", hint: "ssh goes by a key: leave the password out"}
	}
	if scheme == "ssh" && strings.HasPrefix(ep.Path, "-") {
		// The server's git would take it for an option; git itself refuses it, too.
		return nil, &OptionError{Repository: name, Reason: "the path begins with a hyphen", hint: "rename the repository on its server"}
	}
	r := &remote{endpoint: *ep, name: name, idle: func() {}, patience: stallTimeout}
	secrets := []string{ep.Password, o.Credentials.Token}
	if scheme != "ssh" && ep.Password == "" {
		secrets = append(secrets, ep.User) // forges take a token as the user name
	}
	if o.SSHProxy != nil {
		password, _ := o.SSHProxy.User.Password()
		secrets = append(secrets, password)
	}
	r.redact = newRedactor(secrets...)
	user, password := ep.User, ep.Password
	r.endpoint.User, r.endpoint.Password = "", ""
	if scheme == "ssh" {
		return r, r.useSSH(o, user)
	}
	r.useHTTP(o, user, password)
	return r, nil
}

// newFileRemote takes a bare repository, or a folder with .git in it. Git's
// own search through parent folders is not repeated: --repo names a repository.
func newFileRemote(o Options, path string) (*remote, error) {
	if o.DisallowFile {
		return nil, &OptionError{Repository: displayURL(o.URL), Reason: "repositories on this machine's disk are not allowed here", hint: "give an https or ssh URL"}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &OptionError{Repository: path, Reason: err.Error()}
	}
	dirs, err := findGitDir(abs)
	if err != nil {
		e := &NotRepositoryError{Repository: abs, Reason: notRepositoryReason(abs, err)}
		if enclosing, err := enclosingGitDir(abs); err == nil {
			e.hint = "it is inside the repository " + enclosing.top() + "; give that path"
		}
		return nil, e
	}
	if _, err := exec.LookPath("git"); err != nil {
		return nil, &OptionError{Repository: abs, Reason: "git is not installed", hint: "a repository given as a path is served by the git command: install git"}
	}
	cfg := readConfigFile(filepath.Join(dirs.common, "config"))
	if err := checkFormat(cfg); err != nil {
		return nil, formatError(abs, err)
	}
	return &remote{
		endpoint: transport.Endpoint{Protocol: "file", Path: abs},
		// A client of its own: go-git's table of protocols is global and others may change it.
		client: file.NewClient(transport.UploadPackServiceName, transport.ReceivePackServiceName),
		name:   abs, redact: newRedactor(o.Credentials.Token), config: cfg, idle: func() {}, patience: stallTimeout,
	}, nil
}

func notRepositoryReason(path string, err error) string {
	info, statErr := os.Stat(path)
	switch {
	case os.IsNotExist(statErr):
		return "there is no such path"
	case statErr != nil:
		return "the path cannot be read"
	case !info.IsDir():
		return "it is a file"
	case errors.Is(err, errUnsupportedFormat):
		return err.Error()
	}
	return "the folder has no .git and is no bare repository"
}

// advertised is what a remote says when it is called: its refs and abilities.
type advertised struct {
	refs refs
	head string // the branch HEAD points at, "" when unknown
	caps *capability.List
}

// branches lists the short names of all branches.
func (a *advertised) branches() []string {
	var names []string
	for name := range a.refs {
		if b, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			names = append(names, b)
		}
	}
	sort.Strings(names)
	return names
}

func newAdvertised(ar *packp.AdvRefs) (*advertised, error) {
	a := &advertised{refs: refs{}, caps: ar.Capabilities}
	for _, format := range ar.Capabilities.Get(capability.Capability("object-format")) {
		if format != "sha1" {
			return nil, fmt.Errorf("its objects are named by %s: %w", printable(format, 20), errUnsupportedFormat)
		}
	}
	for name, h := range ar.References {
		// Names that git does not allow are skipped as git does; among them ".have".
		if validRefName(name) && !h.IsZero() {
			a.refs[name] = h
		}
	}
	for _, sym := range ar.Capabilities.Get(capability.SymRef) {
		if target, ok := strings.CutPrefix(sym, "HEAD:refs/heads/"); ok {
			a.head = target
		}
	}
	return a, nil
}

// upload is an open session with git-upload-pack.
type upload struct {
	*advertised
	r       *remote
	session transport.UploadPackSession
}

// openUpload calls the remote for reading. An empty repository gives no refs.
func (r *remote) openUpload(ctx context.Context) (*upload, error) {
	ctx, dog := watch(ctx, 2*r.patience) // for the whole list of refs
	defer dog.stop()
	u, err := await(ctx, func() (*upload, error) {
		ep := r.endpoint // go-git changes it on a redirect
		s, err := r.client.NewUploadPackSession(&ep, r.auth)
		if err != nil {
			return nil, err
		}
		ar, err := s.AdvertisedReferencesContext(ctx)
		if errors.Is(err, transport.ErrEmptyRemoteRepository) {
			ar, err = packp.NewAdvRefs(), nil
		}
		if err != nil {
			s.Close()
			return nil, err
		}
		a, err := newAdvertised(ar)
		if err != nil {
			s.Close()
			return nil, err
		}
		return &upload{a, r, s}, nil
	}, func(u *upload) { u.session.Close() })
	if err != nil {
		return nil, r.fail(ctx, "fetching", false, err)
	}
	return u, nil
}

// fetch asks for objects and gives the pack to install. The session is over afterwards.
func (u *upload) fetch(ctx context.Context, wants, haves []plumbing.Hash, install func(io.Reader) error) error {
	req := packp.NewUploadPackRequestFromCapabilities(u.caps)
	if u.caps.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return err
		}
	}
	req.Wants, req.Haves = wants, haves
	ctx, dog := watch(ctx, u.r.patience)
	defer dog.stop()
	resp, err := u.session.UploadPack(ctx, req)
	if err != nil {
		return u.r.fail(ctx, "fetching", false, err)
	}
	pack := dog.listen(resp)
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, pack)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, pack)
	}
	if err := install(pack); err != nil {
		// Closing would wait for a process that itself waits for somebody to
		// read what it writes. A read after the end of the context kills it.
		failed := u.r.fail(ctx, "fetching", false, err)
		var disk *fs.PathError
		if errors.As(err, &disk) || errors.Is(err, ErrTooLarge) {
			failed = fmt.Errorf("storing what %s sent: %w", u.r.name, err)
		}
		dog.stop()
		_, _ = resp.Read(make([]byte, 1))
		return failed
	}
	resp.Close()
	return nil
}

// fail turns an error of go-git into one of this package: typed, and free of credentials.
func (r *remote) fail(ctx context.Context, op string, write bool, err error) error {
	text := r.redact.err(err)
	switch {
	case ctx.Err() != nil:
		return &TransportError{Repository: r.name, Op: op, err: context.Cause(ctx), hint: "it took too long or was interrupted"}
	case errors.Is(err, transport.ErrAuthenticationRequired):
		return &AccessError{Repository: r.name, Write: write, Message: r.reason(err, transport.ErrAuthenticationRequired)}
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return &AccessError{Repository: r.name, Write: write, Denied: true, Message: r.reason(err, transport.ErrAuthorizationFailed)}
	case errors.Is(err, transport.ErrRepositoryNotFound):
		e := &NotRepositoryError{Repository: r.name}
		if r.endpoint.Protocol != "file" {
			e.hint = "check the URL; forges also answer so when the credentials may not read the repository"
		}
		return e
	case errors.Is(err, errUnsupportedFormat):
		return formatError(r.name, text)
	}
	if e := sshFailure(r.name, write, err); e != nil {
		return e
	}
	var token *tokenError
	if errors.As(err, &token) {
		return &AccessError{Repository: r.name, Write: write, Message: printable(r.redact.text(token.Error()), 300), hint: token.hint()}
	}
	e := &TransportError{Repository: r.name, Op: op, err: text}
	var redirect *redirectError
	var certificate *tls.CertificateVerificationError
	var status *url.Error
	switch {
	case errors.As(err, &redirect):
		e.err, e.hint = redirect, "give the URL that it redirects to, if you trust it"
	case errors.As(err, &certificate):
		e.hint = "if the server is the right one, name the authority of its certificate: SLUICE_CA_FILE"
	case errors.As(err, &status) && isDNS(status.Err):
		e.hint = "check the host name in the URL"
	}
	return e
}

func isDNS(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

// reason is what the server said beyond the status. Pages for browsers are left out.
func (r *remote) reason(err, status error) string {
	text := strings.TrimPrefix(err.Error(), status.Error())
	text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), ":"))
	if strings.HasPrefix(text, "<") || strings.HasPrefix(text, "{") {
		return ""
	}
	return printable(r.redact.text(text), 300)
}

// statusCode is the HTTP status of an error of go-git, 0 when it is no such error.
func statusCode(err error) int {
	var e interface{ StatusCode() int }
	var unexpected *plumbing.UnexpectedError
	if errors.As(err, &unexpected) {
		err = unexpected.Err
	}
	if errors.As(err, &e) {
		return e.StatusCode()
	}
	return 0
}
