package gitrepo

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/config"

	"github.com/sluice-dev/sluice/gitrepo/signature"
)

// DefaultBranch is what an empty repository's branch is called when neither
// Options nor the remote name one.
const DefaultBranch = "main"

// Options say which repository Open opens, and how.
type Options struct {
	// URL of the repository (https, http, ssh, file, or user@host:path), or the
	// path of a bare repository or of a work tree.
	URL string
	// Branch to mirror. "" is the remote's default branch.
	Branch string
	// CacheDir keeps mirrors between processes, one folder a repository; several
	// processes may share it. "" is a private temporary folder that Close removes.
	CacheDir string
	// Credentials for https and ssh. Userinfo in the URL is used where they are empty.
	Credentials Credentials
	// Late lets Open succeed though the remote cannot be read now: for processes that
	// stay and fetch again. Until a fetch succeeds no branch or tag is known, and HEAD
	// gives the error of the first.
	Late bool
	// DisallowFile refuses paths and file URLs.
	DisallowFile bool
	// Author and Email stand in commits. Where empty: GIT_AUTHOR_NAME and
	// GIT_AUTHOR_EMAIL, the configuration of a repository given as a path, the
	// user's Git configuration, and at last "sluice".
	Author, Email string
	// Transport sends what goes by https; nil is one of the repository's own, with the
	// machine's certificate authorities and the proxy of the environment. Credentials
	// are added before it, and redirects to other hosts refused.
	Transport http.RoundTripper
	// SSHProxy is the SOCKS5 proxy of ssh; nil is that of ALL_PROXY, if any.
	SSHProxy *url.URL
	// SigningKey gives the key that signs a commit, for each one that is made; nil
	// signs none. Its errors must not hold what is secret.
	SigningKey func() (*signature.PrivateKey, error)
	// Now is the clock of commits; nil is time.Now.
	Now func() time.Time
}

// String leaves the credentials out, so that Options may be logged.
func (o Options) String() string {
	return fmt.Sprintf("%s branch %q cache %q", displayURL(o.URL), o.Branch, o.CacheDir)
}

// GoString leaves the credentials out.
func (o Options) GoString() string { return "gitrepo.Options{" + o.String() + "}" }

// MarshalText leaves the credentials out, so that no encoder of a log prints them.
func (o Options) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Credentials open a remote. No method of it prints a secret.
type Credentials struct {
	// Username for https goes with Token; "" becomes "git", which the forges
	// accept beside a token. For ssh it is the login, by default the URL's or "git".
	Username string
	// Token is the https password or access token.
	Token string
	// TokenSource gives the token of each https request instead, for tokens that live
	// shorter than the process. Its errors must not hold what is secret.
	TokenSource func(context.Context) (string, error)
	// SSHKeyFile is an unencrypted private key. Where empty: the agent of
	// SSH_AUTH_SOCK, else the first of ~/.ssh/id_ed25519, id_ecdsa, id_rsa.
	SSHKeyFile string
	// KnownHostsFile has the host keys that ssh accepts. Where empty:
	// SSH_KNOWN_HOSTS, else ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
	// There is no way to accept an unknown host.
	KnownHostsFile string
}

// String says only which credentials are set.
func (c Credentials) String() string {
	var set []string
	if c.Username != "" {
		set = append(set, "username")
	}
	if c.Token != "" || c.TokenSource != nil {
		set = append(set, "token")
	}
	if c.SSHKeyFile != "" {
		set = append(set, "ssh key")
	}
	return "credentials(" + strings.Join(set, ", ") + ")"
}

// GoString says only which credentials are set.
func (c Credentials) GoString() string { return "gitrepo." + c.String() }

// MarshalText says only which credentials are set, so that no encoder of a log prints them.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// identity is who commits.
type identity struct {
	name, email string
	key         func() (*signature.PrivateKey, error) // nil: commits are not signed
}

// fill takes what is missing from the next best source.
func (i *identity) fill(name, email string) {
	if i.name == "" {
		i.name = name
	}
	if i.email == "" {
		i.email = email
	}
}

// committer resolves who commits; local is the configuration of a repository
// that was given as a path, or nil.
func committer(o Options, local *config.Config) identity {
	id := identity{name: o.Author, email: o.Email, key: o.SigningKey}
	id.fill(os.Getenv("GIT_AUTHOR_NAME"), os.Getenv("GIT_AUTHOR_EMAIL"))
	if local != nil {
		id.fill(local.User.Name, local.User.Email)
	}
	if id.name == "" || id.email == "" {
		for _, file := range globalConfigFiles() {
			if c := readConfigFile(file); c != nil {
				id.fill(c.User.Name, c.User.Email)
			}
		}
	}
	id.fill("sluice", "sluice@localhost")
	return identity{signatureText(id.name, "sluice"), signatureText(id.email, "sluice@localhost"), id.key}
}

// globalConfigFiles are the user's, then the machine's configuration, as git finds them.
func globalConfigFiles() []string {
	var files []string
	if file, set := os.LookupEnv("GIT_CONFIG_GLOBAL"); set {
		files = append(files, file)
	} else if home, err := os.UserHomeDir(); err == nil {
		xdg := os.Getenv("XDG_CONFIG_HOME")
		if xdg == "" {
			xdg = filepath.Join(home, ".config")
		}
		files = append(files, filepath.Join(home, ".gitconfig"), filepath.Join(xdg, "git", "config"))
	}
	if os.Getenv("GIT_CONFIG_NOSYSTEM") == "" {
		files = append(files, "/etc/gitconfig")
	}
	return files
}

// readConfigFile returns nil for a file that is missing or cannot be read: an
// identity is a nicety, its absence no reason to fail.
func readConfigFile(file string) *config.Config {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	c, err := config.ReadConfig(f)
	if err != nil {
		return nil
	}
	return c
}

// signatureText drops what would break a commit's author line, as git does.
func signatureText(s, fallback string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == '<' || r == '>' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if s = strings.Trim(s, " .,:;\"\\'"); s == "" {
		return fallback
	}
	return s
}
