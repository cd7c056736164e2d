package gitrepo

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

const sshTimeout = 30 * time.Second

// useSSH makes the remote's client. Host keys are always checked.
func (r *remote) useSSH(o Options, user string) error {
	c := o.Credentials
	if c.Username != "" {
		user = c.Username
	}
	if user == "" {
		user = "git"
	}
	if o.SSHProxy != nil {
		if o.SSHProxy.Scheme != "socks5" {
			return &OptionError{Repository: r.name, Reason: fmt.Sprintf("ssh does not go through a proxy of scheme %q", printable(o.SSHProxy.Scheme, 20)),
				hint: "name a proxy socks5://HOST:PORT, or reach the repository by https"}
		}
		r.endpoint.Proxy = transport.ProxyOptions{URL: o.SSHProxy.String()}
	}
	r.client = gitssh.NewClient(nil)
	port := r.endpoint.Port
	if port == 0 {
		port = gitssh.DefaultPort
	}
	r.auth = &sshAuth{user: user, key: c.SSHKeyFile, knownHosts: c.KnownHostsFile, host: r.endpoint.Host, port: port}
	return nil
}

// sshAuth finds the key when a connection is made, so that an agent may be
// restarted and a mounted key be replaced while a controller runs.
type sshAuth struct {
	user, key, knownHosts, host string
	port                        int
}

// Name implements go-git's AuthMethod.
func (a *sshAuth) Name() string { return "ssh" }

// String implements go-git's AuthMethod.
func (a *sshAuth) String() string { return "ssh user " + a.user }

// ClientConfig implements go-git's AuthMethod for ssh.
func (a *sshAuth) ClientConfig() (*ssh.ClientConfig, error) {
	auth, err := a.method()
	if err != nil {
		return nil, err
	}
	var files []string
	if a.knownHosts != "" {
		files = append(files, a.knownHosts)
	}
	db, err := gitssh.NewKnownHostsDb(files...)
	if err != nil {
		return nil, &sshSetupError{reason: "there is no file of known hosts: " + err.Error(), hint: "put the server's host key into ~/.ssh/known_hosts (ssh-keyscan prints it; compare it with what the forge publishes)"}
	}
	return &ssh.ClientConfig{
		User: a.user, Auth: []ssh.AuthMethod{auth}, Timeout: sshTimeout,
		HostKeyCallback: db.HostKeyCallback(), HostKeyAlgorithms: db.HostKeyAlgorithms(a.address()),
	}, nil
}

// address is where go-git will connect to: ~/.ssh/config may say that the
// host is an alias.
func (a *sshAuth) address() string {
	host, port := a.host, strconv.Itoa(a.port)
	if gitssh.DefaultSSHConfig != nil {
		if h := gitssh.DefaultSSHConfig.Get(a.host, "Hostname"); h != "" {
			host = h
			if p := gitssh.DefaultSSHConfig.Get(a.host, "Port"); p != "" {
				port = p
			}
		}
	}
	return net.JoinHostPort(host, port)
}

func (a *sshAuth) method() (ssh.AuthMethod, error) {
	if a.key != "" {
		return a.keyFile(a.key)
	}
	if os.Getenv("SSH_AUTH_SOCK") != "" {
		auth, err := gitssh.NewSSHAgentAuth(a.user)
		if err != nil {
			return nil, &sshSetupError{reason: "the ssh agent does not answer", hint: "start an ssh agent, or name a key file"}
		}
		return ssh.PublicKeysCallback(auth.Callback), nil
	}
	home, err := os.UserHomeDir()
	if err == nil {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			file := filepath.Join(home, ".ssh", name)
			if _, err := os.Stat(file); err == nil {
				return a.keyFile(file)
			}
		}
	}
	return nil, &sshSetupError{reason: "there is no ssh key", hint: "start an ssh agent, or name a key file"}
}

func (a *sshAuth) keyFile(file string) (ssh.AuthMethod, error) {
	pem, err := readSmall(file)
	if err != nil {
		return nil, &sshSetupError{reason: fmt.Sprintf("key %s cannot be read", file), hint: "name an unencrypted private key in OpenSSH or PEM format"}
	}
	signer, err := ssh.ParsePrivateKey(pem)
	var encrypted *ssh.PassphraseMissingError
	if errors.As(err, &encrypted) {
		return nil, &sshSetupError{reason: fmt.Sprintf("key %s is encrypted", file), hint: "add it to an ssh agent, or name an unencrypted key"}
	}
	if err != nil {
		return nil, &sshSetupError{reason: fmt.Sprintf("key %s is no private key", file), hint: "name an unencrypted private key in OpenSSH or PEM format"}
	}
	return ssh.PublicKeys(signer), nil
}

// sshSetupError is a problem on this side of an ssh connection.
type sshSetupError struct{ reason, hint string }

func (e *sshSetupError) Error() string { return e.reason }

// sshFailure recognises what goes wrong before git speaks; nil for anything else.
func sshFailure(name string, write bool, err error) error {
	var setup *sshSetupError
	if errors.As(err, &setup) {
		return &AccessError{Repository: name, Write: write, Message: setup.reason, hint: setup.hint}
	}
	switch {
	case knownhosts.IsHostKeyChanged(err):
		return &AccessError{Repository: name, Write: write, Denied: true, Message: "the server's host key is not the known one",
			hint: "somebody may be listening in; if the server's key was changed, replace it in known_hosts"}
	case knownhosts.IsHostUnknown(err):
		return &AccessError{Repository: name, Write: write, Denied: true, Message: "the server's host key is not known",
			hint: "put it into ~/.ssh/known_hosts (ssh-keyscan prints it; compare it with what the forge publishes)"}
	}
	// x/crypto/ssh has no error type for this.
	if strings.Contains(err.Error(), "unable to authenticate") {
		return &AccessError{Repository: name, Write: write, Message: "the server accepts none of the ssh keys"}
	}
	return nil
}
