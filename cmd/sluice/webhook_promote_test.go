package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// watchedShop is examples/shop on a GitHub server, with promotions that a controller
// looks after and a webhook to it.
type watchedShop struct {
	*testing.T
	server *githubtest.Server
	repo   *githubtest.Repository
	token  string
	app    *app
	duties *duties
	posted chan struct{}
}

func newWatchedShop(t *testing.T) *watchedShop {
	t.Helper()
	w := &watchedShop{T: t, server: githubtest.New(t), posted: make(chan struct{}, 1)}
	w.repo, w.token = w.server.Create("shop/environments"), w.server.Token("ada", githubtest.Write)
	clone := filepath.Join(t.TempDir(), "clone")
	require.NoError(t, os.CopyFS(clone, os.DirFS("../../examples/shop")))
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"},
		{"-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "Start"}, {"push", "-q", w.repo.Dir, "main"}} {
		gitOutput(t, append([]string{"-C", clone}, args...)...)
	}
	env := map[string]string{"SLUICE_REPO": w.repo.URL(), "SLUICE_FORGE": "github", "SLUICE_GITHUB_URL": w.server.URL, "SLUICE_GITHUB_TOKEN": w.token}
	var out bytes.Buffer
	p := process{Stdin: &bytes.Buffer{}, Stdout: &out, Stderr: &out, Getenv: func(name string) string { return env[name] }, Dir: t.TempDir(), Now: time.Now}
	for _, line := range []string{
		"build record --component api --no-ci --check trivy=passed --digest sha256:" + strings.Repeat("a", 64),
		"build record --component web --no-ci --check trivy=passed --digest sha256:" + strings.Repeat("b", 64),
		"promote api --to staging", "promote web --to staging",
	} {
		require.Zero(t, run(t.Context(), strings.Fields(line), p), "%s: %s", line, &out)
	}
	w.app = &app{process: p, repo: w.repo.URL(), branch: "main", forge: forgeFlags{kind: "github", githubURL: w.server.URL}}
	var err error
	w.duties, err = w.app.newDuties(dutyOptions{promote: true}, logr.Discard())
	require.NoError(t, err)
	w.duties.served = []string{"development", "staging", "production"}
	return w
}

// start has the controller look after promotions, told by webhooks.
func (w *watchedShop) start() {
	w.Helper()
	repo, forge, err := w.app.openForge(w.Context())
	require.NoError(w, err)
	w.Cleanup(func() { assert.NoError(w, repo.Close()) })
	file := filepath.Join(w.TempDir(), "secrets")
	require.NoError(w, os.WriteFile(file, []byte(webhookSecret+"\n"), 0o600))
	s, err := newWebhookServer(webhookOptions{"127.0.0.1:0", file}, w.posted, logr.Discard())
	require.NoError(w, err)
	s.asked = w.duties.asked
	ctx, cancel := context.WithCancel(context.Background())
	attended, forwarded := make(chan struct{}), make(chan error, 1)
	go func() {
		w.duties.attend(ctx, w.app.newService(repo, forge, nil), nil, func(context.Context) error { return nil })
		close(attended)
	}()
	go func() { forwarded <- s.forward(ctx) }()
	go func() { _ = s.server.Serve(s.listener) }()
	w.Cleanup(func() {
		cancel()
		<-attended
		assert.NoError(w, <-forwarded)
		assert.NoError(w, s.server.Close())
	})
	w.looked("looking after promotions")
	w.repo.Hook("http://"+s.listener.Addr().String()+"/", webhookSecret, "push", "pull_request", "status")
}

// looked waits until something was done, and forgets that it was.
func (w *watchedShop) looked(what string) {
	w.Helper()
	require.Eventually(w, func() bool {
		w.duties.mu.Lock()
		defer w.duties.mu.Unlock()
		said, done := w.duties.said[what]
		delete(w.duties.said, what)
		assert.Empty(w, said)
		return done
	}, awaitTimeout, time.Millisecond, what)
}

// api sends a request as somebody with a token.
func (w *watchedShop) api(method, path string, body, answer any) {
	w.Helper()
	data, err := json.Marshal(body)
	require.NoError(w, err)
	r, err := http.NewRequestWithContext(w.Context(), method, w.server.URL+"/api/v3/repos/shop/environments"+path, bytes.NewReader(data))
	require.NoError(w, err)
	r.Header.Set("Authorization", "Bearer "+w.token)
	response, err := http.DefaultClient.Do(r)
	require.NoError(w, err)
	defer response.Body.Close()
	require.Less(w, response.StatusCode, 300, "%s %s", method, path)
	if answer != nil {
		require.NoError(w, json.NewDecoder(response.Body).Decode(answer))
	}
}

func (w *watchedShop) head(number int) string {
	w.Helper()
	var p struct{ Head struct{ SHA string } }
	w.api(http.MethodGet, fmt.Sprintf("/pulls/%d", number), nil, &p)
	return p.Head.SHA
}

// asked are the requests since the last call, without the repository.
func (w *watchedShop) asked() (list []string) {
	for _, r := range w.server.Requests() {
		list = append(list, r.Method+" "+strings.TrimPrefix(r.Path, "/repos/shop/environments"))
	}
	return list
}

// What a webhook says of one pull request costs the requests of that one, and no
// look at the branch.
func TestAWebhookHasOnePullRequestJudged(t *testing.T) {
	w := newWatchedShop(t)
	w.start()
	head := w.head(1)
	ofOne := []string{"GET /pulls/1", "GET /issues/1/comments", "GET /commits/" + head + "/status", "GET /commits/" + head + "/status"}

	w.asked()
	for i := range 50 { // an edit is seen once, or once more
		w.api(http.MethodPatch, "/pulls/1", map[string]string{"title": fmt.Sprint("Edited by hand ", i)}, nil)
	}
	w.server.Delivered()
	w.looked("looking after a pull request")
	require.Eventually(t, func() bool { return len(w.duties.asked.Ready()) == 0 }, awaitTimeout, time.Millisecond)
	var asked []string
	for _, r := range w.asked() {
		if !strings.HasPrefix(r, "PATCH ") {
			asked = append(asked, r)
		}
	}
	assert.LessOrEqual(t, len(asked), 2*len(ofOne))
	for _, r := range asked {
		assert.Contains(t, ofOne, r, "of no other pull request, and nothing is written")
	}
	assert.Empty(t, w.posted, "nobody looks at the branch")
}

// A status that somebody forges is put right at once, and that ends there.
func TestAForgedStatusIsPutRight(t *testing.T) {
	w := newWatchedShop(t)
	w.start()
	head := w.head(1)
	w.asked()
	w.api(http.MethodPost, "/statuses/"+head, map[string]string{"context": "sluice/healthy", "state": "success", "description": "all is well"}, nil)
	w.looked("looking after a pull request")
	w.server.Delivered()
	w.looked("looking after a pull request") // its own write is an event too
	asked := w.asked()
	assert.Equal(t, 2, len(slices.DeleteFunc(slices.Clone(asked), func(r string) bool { return r != "POST /statuses/"+head })),
		"the forged one, and the right one: %v", asked)
	assert.LessOrEqual(t, len(asked), 2+3*2)
	var shown struct {
		Statuses []struct{ Context, State string }
	}
	w.api(http.MethodGet, "/commits/"+head+"/status", nil, &shown)
	assert.Contains(t, shown.Statuses, struct{ Context, State string }{"sluice/healthy", "pending"})
	assert.Empty(t, w.posted)

	// A status of another commit is nothing to ask the forge about.
	main := strings.Fields(gitOutput(t, "-C", w.repo.Dir, "rev-parse", "main"))[0]
	w.asked()
	w.api(http.MethodPost, "/statuses/"+main, map[string]string{"context": "ci", "state": "success"}, nil)
	w.looked("looking after a pull request")
	assert.Equal(t, []string{"POST /statuses/" + main}, w.asked())
}

// Pull requests that are no promotions, or are gone, cost one request each.
func TestAWebhookOfSomethingElse(t *testing.T) {
	w := newWatchedShop(t)
	repo, forge, err := w.app.openForge(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, repo.Close()) })
	service := w.app.newService(repo, forge, nil)
	commit := gitOutput(t, "-C", w.repo.Dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit-tree", "main^{tree}", "-p", "main", "-m", "Nothing")
	gitOutput(t, "-C", w.repo.Dir, "branch", "feature", strings.TrimSpace(commit))
	var mine struct{ Number int }
	w.api(http.MethodPost, "/pulls", map[string]string{"title": "Mine", "head": "feature", "base": "main"}, &mine)
	for number, requests := range map[int]int{mine.Number: 1, 4711: 2} {
		w.asked()
		a, err := service.AdvanceOne(t.Context(), number, w.duties.served)
		require.NoError(t, err)
		assert.Equal(t, promotion.Advance{}, a)
		assert.Len(t, w.asked(), requests, "%d", number)
	}
	w.asked()
	a, err := service.AdvanceHead(t.Context(), w.head(2), []string{"production"})
	require.NoError(t, err)
	assert.Equal(t, promotion.Advance{}, a, "of an environment that another controller serves")
	assert.Equal(t, []string{"GET /pulls/2"}, w.asked(), "which is this test's")
}
