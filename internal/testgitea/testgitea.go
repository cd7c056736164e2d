// Package testgitea gives tests a real Gitea server. Call Start, then make a
// repository for each test with Repository.
//
// One server runs for the whole test binary, on loopback, in a private folder
// that goes with it; `make tools` builds the program. Where it could not be
// built (it needs a C compiler), and in short runs, tests that need it are
// skipped. The package never talks to a server that it has not started.
package testgitea

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Server is a Gitea that runs.
type Server struct {
	// URL is its address, without a slash at the end.
	URL string
	// Owner is the name of the user who owns the repositories, an administrator.
	Owner string
	// Token is the owner's, with every scope.
	Token string

	// alive is our end of its standard input, which ends it when it is closed: by
	// the kernel, or by the garbage collector if nothing held it.
	alive io.Closer
}

// T is what this package needs of a test; a testing.TB has it.
type T interface {
	Helper()
	Context() context.Context
	Skip(args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Start returns the server of this test binary, and starts it at the first
// call.
func Start(t T) *Server {
	t.Helper()
	if err := Missing(); err != nil {
		t.Skip(err)
	}
	s, err := running()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Missing says why tests that need a server are skipped, nil when they are not:
// where it could have been built, a test that finds none fails.
func Missing() error {
	if !testing.Short() && compiler() {
		return nil
	}
	_, err := running()
	var missing *missingError
	if errors.As(err, &missing) {
		return missing
	}
	return nil
}

// compiler reports whether there is a C compiler, so that Gitea could have been
// built.
func compiler() bool {
	for _, name := range []string{"gcc", "clang"} {
		if _, err := exec.LookPath(name); err == nil {
			return true
		}
	}
	return false
}

// Repository is a fresh repository whose branch main has one commit with a file
// README.
type Repository struct {
	Owner, Name string
	URL         string // for Git, over HTTP
}

// Repository makes a repository with a name of its own.
func (s *Server) Repository(t T) Repository {
	t.Helper()
	r := s.Empty(t)
	s.Must(t, http.MethodPost, r.API("/contents/README"), map[string]any{
		"branch": "main", "message": "Start", "content": base64.StdEncoding.EncodeToString([]byte("first\n")),
	}, nil)
	return r
}

// Empty makes a repository without a commit.
func (s *Server) Empty(t T) Repository {
	t.Helper()
	r := Repository{Owner: s.Owner, Name: unique("environments")}
	r.URL = s.URL + "/" + r.Owner + "/" + r.Name + ".git"
	s.Must(t, http.MethodPost, "/user/repos", map[string]any{"name": r.Name, "default_branch": "main", "private": true}, nil)
	return r
}

// AwaitPush returns when the server has noticed the first push into an empty
// repository, which takes pull requests only then.
func (s *Server) AwaitPush(t T, r Repository) {
	t.Helper()
	for deadline := time.Now().Add(startup); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var has struct{ Empty bool }
		if s.Must(t, http.MethodGet, r.API(""), nil, &has); !has.Empty {
			return
		}
	}
	t.Fatalf("Gitea has not noticed the push into %s", r.Name)
}

// API is the path of something of the repository.
func (r Repository) API(path string) string { return "/repos/" + r.Owner + "/" + r.Name + path }

// User makes another user and a token of theirs with some scopes, such as
// write:repository.
func (s *Server) User(t T, scopes ...string) (name, token string) {
	t.Helper()
	name = unique("user")
	password := rand.Text()
	s.Must(t, http.MethodPost, "/admin/users", map[string]any{
		"username": name, "email": name + "@example.com", "password": password, "must_change_password": false,
	}, nil)
	request, err := s.request(t.Context(), http.MethodPost, "/users/"+name+"/tokens", map[string]any{"name": "test", "scopes": scopes})
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(name, password)
	var made struct {
		Token string `json:"sha1"`
	}
	if status, err := send(request, &made); err != nil || status != http.StatusCreated {
		t.Fatalf("making a token of %s: status %d: %v", name, status, err)
	}
	return name, made.Token
}

// Must calls the API as the owner, and fails the test when it refuses. The path
// is below /api/v1; out may be nil.
func (s *Server) Must(t T, method, path string, in, out any) {
	t.Helper()
	request, err := s.request(t.Context(), method, path, in)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "token "+s.Token)
	if status, err := send(request, out); err != nil || status/100 != 2 {
		t.Fatalf("%s %s: status %d: %v", method, path, status, err)
	}
}

func (s *Server) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.URL+"/api/v1"+path, body)
	if err == nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, err
}

// send returns the status, and as an error what a refusal says.
func send(request *http.Request, out any) (status int, err error) {
	client := http.Client{Timeout: time.Minute}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return response.StatusCode, err
	case response.StatusCode/100 != 2:
		return response.StatusCode, errors.New(string(data))
	case out == nil:
		return response.StatusCode, nil
	}
	return response.StatusCode, json.Unmarshal(data, out)
}

// unique is a name that nothing else of this server has.
func unique(prefix string) string {
	return fmt.Sprintf("%s-%s", prefix, strings.ToLower(rand.Text()[:10]))
}
