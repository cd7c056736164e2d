package testgitea

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/sluice-dev/sluice/internal/checkout"
)

// missingError says that Gitea was not built.
type missingError struct{ path string }

func (e *missingError) Error() string {
	return "there is no Gitea to test on (" + e.path + "): run `make tools`, which needs a C compiler to build it"
}

// startup bounds how long a server may take until it answers.
const startup = time.Minute

// running is the server of the test binary, started once.
var running = sync.OnceValues(func() (*Server, error) {
	root, err := checkout.Root()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(root, "bin", "gitea")
	if _, err := os.Stat(program); err != nil {
		return nil, &missingError{program}
	}
	dir, err := os.MkdirTemp("", "sluice-gitea-")
	if err != nil {
		return nil, err
	}
	s, err := start(program, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting Gitea: %w", err), os.RemoveAll(dir))
	}
	return s, nil
})

// config is what a test needs of Gitea and nothing else; webhooks may go to
// loopback.
var config = template.Must(template.New("app.ini").Parse(`
APP_NAME = Gitea for tests
RUN_MODE = prod
RUN_USER = {{.User}}
WORK_PATH = {{.Dir}}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
PROTOCOL = http
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {{.Port}}
ROOT_URL = {{.URL}}/
DISABLE_SSH = true
OFFLINE_MODE = true
STATIC_ROOT_PATH = {{.Static}}
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = {{.Dir}}/gitea.db
SQLITE_JOURNAL_MODE = WAL
SQLITE_TIMEOUT = 20000
[security]
INSTALL_LOCK = true
SECRET_KEY = {{.Dir}}
[repository]
ROOT = {{.Dir}}/repositories
[service]
DISABLE_REGISTRATION = true
[webhook]
ALLOWED_HOST_LIST = loopback
[indexer]
ISSUE_INDEXER_TYPE = db
[cron]
ENABLED = false
[actions]
ENABLED = false
[packages]
ENABLED = false
[log]
MODE = console
LEVEL = warn
`))

// script runs Gitea until its standard input closes, which the kernel does
// however the test binary ends, and removes the folder.
const script = `"$1" web --config "$2/app.ini" </dev/null >"$2/log" 2>&1 &
cat >/dev/null
kill $!
wait $!
rm -rf "$2"`

func start(program, dir string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://127.0.0.1:" + port, Owner: "ada"}
	current, err := user.Current()
	if err != nil {
		return nil, err
	}
	var ini bytes.Buffer
	err = config.Execute(&ini, map[string]string{
		"User": current.Username, "Dir": dir, "Port": port, "URL": s.URL, "Static": filepath.Join(filepath.Dir(program), "gitea-root"),
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "app.ini"), ini.Bytes(), 0o600); err != nil {
		return nil, err
	}
	command := exec.Command("sh", "-c", script, "sh", program, dir)
	command.Env = environment(dir)
	alive, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	if err = s.await(); err == nil {
		s.Token, err = s.owner(program, dir)
	}
	if err != nil {
		said, _ := os.ReadFile(filepath.Join(dir, "log"))
		return nil, errors.Join(err, errors.New(string(said)), alive.Close(), command.Wait())
	}
	s.alive = alive
	return s, nil
}

// environment has nothing of the user's own Git in it. Every push starts Gitea
// three more times, as Git's hooks, which mostly collect garbage.
func environment(dir string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GOGC=400"}
}

// await returns when the server answers.
func (s *Server) await() error {
	client := http.Client{Timeout: time.Second}
	for deadline := time.Now().Add(startup); ; time.Sleep(20 * time.Millisecond) {
		response, err := client.Get(s.URL + "/api/v1/version")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w", s.URL, err)
		}
	}
}

// owner makes the first user and returns a token of theirs.
func (s *Server) owner(program, dir string) (string, error) {
	command := exec.Command(program, "--config", filepath.Join(dir, "app.ini"), "admin", "user", "create",
		"--username", s.Owner, "--email", s.Owner+"@example.com", "--random-password", "--admin", "--must-change-password=false",
		"--access-token", "--access-token-name", "test", "--access-token-scopes", "all")
	command.Env = environment(dir)
	out, err := command.CombinedOutput()
	words := strings.Fields(string(out))
	if err != nil || len(words) == 0 {
		return "", fmt.Errorf("making a user: %w: %s", err, out)
	}
	return words[len(words)-1], nil
}

func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, err
}
