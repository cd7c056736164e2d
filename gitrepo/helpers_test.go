package gitrepo

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(lockHolder); file != "" {
		os.Exit(holdLock(file))
	}
	home, err := os.MkdirTemp("", "gitrepo-test-home-")
	if err != nil {
		panic(err)
	}
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": home,
		"GIT_AUTHOR_NAME": "", "GIT_AUTHOR_EMAIL": "", "GIT_TERMINAL_PROMPT": "0", "SSH_AUTH_SOCK": "",
	} {
		os.Setenv(name, value)
	}
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

// git runs the git command in a folder and returns what it prints.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	return gitInput(t, dir, "", args...)
}

func gitInput(t testing.TB, dir, input string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(),
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoErrorf(t, err, "git %s: %s", strings.Join(args, " "), stderr.String())
	return strings.TrimSpace(string(out))
}

// emptyBare makes a bare repository without commits.
func emptyBare(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop.git")
	git(t, "", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	// Maintenance in the background would outlive the test.
	git(t, dir, "config", "gc.auto", "0")
	git(t, dir, "config", "maintenance.auto", "false")
	return dir
}

// bare makes a bare repository with one commit of the files on main.
func bare(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := emptyBare(t)
	commitFiles(t, dir, "main", "first", files)
	return dir
}

// commitFiles commits files to a branch of a bare repository with git itself,
// as another writer would; existing files stay. It returns the new revision.
func commitFiles(t testing.TB, dir, branch, message string, files map[string]string) string {
	t.Helper()
	return importCommits(t, dir, branch, []importedCommit{{message, files}})
}

type importedCommit struct {
	message string
	files   map[string]string
}

// importCommits makes commits with one call of git.
func importCommits(t testing.TB, dir, branch string, commits []importedCommit) string {
	t.Helper()
	var in strings.Builder
	for i, c := range commits {
		fmt.Fprintf(&in, "commit refs/heads/%s\ncommitter Ann <ann@example.com> %d +0000\ndata %d\n%s\n", branch, 1767323045+i, len(c.message), c.message)
		if i == 0 && git(t, dir, "for-each-ref", "refs/heads/"+branch) != "" {
			fmt.Fprintf(&in, "from refs/heads/%s^0\n", branch)
		}
		for name, data := range c.files {
			fmt.Fprintf(&in, "M 100644 inline %q\ndata %d\n%s\n", name, len(data), data)
		}
	}
	gitInput(t, dir, in.String(), "-c", "gc.auto=0", "fast-import", "--quiet")
	return git(t, dir, "rev-parse", "refs/heads/"+branch)
}

// open opens a repository and closes it with the test.
func open(t testing.TB, o Options) *Repository {
	t.Helper()
	r, err := Open(context.Background(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// write is an edit that writes files.
func write(message string, files map[string]string) func(*Snapshot) (Edit, error) {
	return func(*Snapshot) (Edit, error) {
		e := Edit{Message: message, Write: map[string][]byte{}}
		for name, data := range files {
			e.Write[name] = []byte(data)
		}
		return e, nil
	}
}

func read(t testing.TB, s *Snapshot, name string) string {
	t.Helper()
	data, err := s.ReadFile(name)
	require.NoError(t, err)
	return string(data)
}

func snapshot(t testing.TB, r *Repository, rev string) *Snapshot {
	t.Helper()
	s, err := r.Snapshot(rev)
	require.NoError(t, err)
	return s
}

func fsck(t testing.TB, dir string) {
	t.Helper()
	require.NotContains(t, git(t, dir, "fsck", "--strict", "--full"), "error")
}

// hint returns the hint of an error.
func hint(t testing.TB, err error) string {
	t.Helper()
	var h interface{ Hint() string }
	require.ErrorAs(t, err, &h)
	return h.Hint()
}

// serving is a way to reach a bare repository.
type serving struct {
	name string
	// serve makes the repository reachable and gives what Open needs.
	serve func(t testing.TB, dir string) Options
}

var servings = []serving{
	{"path", func(_ testing.TB, dir string) Options { return Options{URL: dir} }},
	{"file", func(_ testing.TB, dir string) Options { return Options{URL: "file://" + dir} }},
	{"http", func(t testing.TB, dir string) Options { return serveHTTP(t, dir, nil) }},
	{"ssh", serveSSH},
}

const (
	testUser  = "robot"
	testToken = "s3cr3t/token+with%odd chars"
)

// serveHTTP serves a repository with git http-backend behind basic auth. wrap
// may change how the backend is called.
func serveHTTP(t testing.TB, dir string, wrap func(backend http.Handler) http.Handler) Options {
	t.Helper()
	var backend http.Handler = &cgi.Handler{
		Path: filepath.Join(git(t, "", "--exec-path"), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(dir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + testUser,
			"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1"},
		Stderr: io.Discard,
	}
	if wrap != nil {
		backend = wrap(backend)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, password, _ := req.BasicAuth(); user != testUser || password != testToken {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	return Options{URL: server.URL + "/" + filepath.Base(dir), Credentials: Credentials{Username: testUser, Token: testToken}}
}

// serveSSH serves git's commands over ssh with keys made for the test.
func serveSSH(t testing.TB, dir string) Options {
	t.Helper()
	hostKey, userKey := newKey(t), newKey(t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), userKey.signer.PublicKey().Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey.signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveSSHConn(conn, config)
		}
	}()
	folder := t.TempDir()
	keyFile, hosts := filepath.Join(folder, "id"), filepath.Join(folder, "known_hosts")
	require.NoError(t, os.WriteFile(keyFile, userKey.pem, 0o600))
	line := knownhosts.Line([]string{listener.Addr().String()}, hostKey.signer.PublicKey())
	require.NoError(t, os.WriteFile(hosts, []byte(line+"\n"), 0o600))
	return Options{URL: "ssh://" + listener.Addr().String() + dir, Credentials: Credentials{SSHKeyFile: keyFile, KnownHostsFile: hosts}}
}

type sshKey struct {
	signer ssh.Signer
	pem    []byte
}

func newKey(t testing.TB) sshKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	return sshKey{signer, pem.EncodeToMemory(block)}
}

func serveSSHConn(conn net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			for req := range requests {
				if req.Type != "exec" {
					req.Reply(false, nil)
					continue
				}
				var exec struct{ Command string }
				ssh.Unmarshal(req.Payload, &exec)
				req.Reply(true, nil)
				runSSHCommand(channel, exec.Command)
			}
		}()
	}
}

func runSSHCommand(channel ssh.Channel, command string) {
	cmd := exec.Command("sh", "-c", command)
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	stdin, _ := cmd.StdinPipe()
	go func() {
		io.Copy(stdin, channel)
		stdin.Close()
	}()
	status := struct{ Status uint32 }{}
	if err := cmd.Run(); err != nil {
		status.Status = 1
	}
	channel.SendRequest("exit-status", false, ssh.Marshal(status))
	channel.Close()
}

// clock is a fixed time, so that commits are the same in every run.
func clock() time.Time { return time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC) }

func snapshotHash(rev string) plumbing.Hash { return plumbing.NewHash(rev) }
