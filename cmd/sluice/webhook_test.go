package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/testgitea"
)

const webhookSecret = "0123456789abcdef-of-a-test"

// serveWebhooks runs a webhook server until the test ends.
func serveWebhooks(t *testing.T) (url string, posted chan struct{}) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secrets")
	require.NoError(t, os.WriteFile(file, []byte(webhookSecret+"\n"), 0o600))
	posted = make(chan struct{}, 1)
	s, err := newWebhookServer(webhookOptions{"127.0.0.1:0", file}, posted, logr.Discard())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	forwarded, served := make(chan error, 1), make(chan error, 1)
	go func() { forwarded <- s.forward(ctx) }()
	go func() { served <- s.server.Serve(s.listener) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-forwarded)
		assert.NoError(t, s.server.Close())
		assert.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return "http://" + s.listener.Addr().String() + "/", posted
}

// awaitPost waits for a look that was asked for.
func awaitPost(t *testing.T, posted <-chan struct{}) {
	t.Helper()
	select {
	case <-posted:
	case <-time.After(awaitTimeout):
		t.Fatal("nobody was told")
	}
}

// sendPush sends what GitHub sends of a push, and returns the status of the answer.
func sendPush(url, secret string) (int, error) {
	const body = `{"ref":"refs/heads/main"}`
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header = http.Header{"Content-Type": {"application/json"}, "X-Github-Event": {"push"}, "X-Hub-Signature-256": {"sha256=" + hex.EncodeToString(mac.Sum(nil))}}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// cmdWebhook sends a webhook about a push: webhook ADDRESS SECRET STATUS.
func cmdWebhook(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: webhook ADDRESS SECRET STATUS")
	}
	status, err := sendPush("http://"+args[0], args[1])
	ts.Check(err)
	if strconv.Itoa(status) != args[2] {
		ts.Fatalf("the answer to the webhook is %d", status)
	}
}

func TestWebhookServer(t *testing.T) {
	url, posted := serveWebhooks(t)
	status, err := sendPush(url, "another secret, as long")
	require.NoError(t, err)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Empty(t, posted)
	status, err = sendPush(url, webhookSecret)
	require.NoError(t, err)
	assert.Equal(t, http.StatusAccepted, status)
	awaitPost(t, posted)
}

// Gitea signs and sends its own.
func TestWebhookOfGitea(t *testing.T) {
	server := testgitea.Start(t)
	repository := server.Repository(t)
	url, posted := serveWebhooks(t)
	hook := func(secret string) {
		server.Must(t, http.MethodPost, repository.API("/hooks"), map[string]any{
			"type": "gitea", "active": true, "events": []string{"push", "pull_request", "status"},
			"config": map[string]string{"url": url, "content_type": "json", "secret": secret},
		}, nil)
	}
	hook("a secret of somebody else")
	commit := func(path string) {
		server.Must(t, http.MethodPost, repository.API("/contents/"+path), map[string]any{"message": "Change", "content": "eA=="}, nil)
	}
	commit("first") // forged: whether it has come by now or not, it tells nobody
	hook(webhookSecret)
	commit("second")
	awaitPost(t, posted)
}

func TestSecretFile(t *testing.T) {
	now, said := fixedNow(), ""
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	file := &secretFile{path: path, now: func() time.Time { return now }, log: funcr.New(func(_, args string) { said += args }, funcr.Options{})}

	err := file.load()
	require.ErrorIs(t, err, fs.ErrNotExist)
	var hint interface{ Hint() string }
	require.True(t, errors.As(err, &hint))

	write("a secret of yesterday\n")
	require.NoError(t, file.load())
	write("a secret of yesterday\na secret of tomorrow\n")
	assert.Equal(t, 1, file.secrets().Len(), "read a moment ago")
	now = now.Add(rereadSecrets)
	assert.Equal(t, 2, file.secrets().Len())

	for _, broken := range []string{"", "short", strings.Repeat("x\n", maxSecretFile)} {
		write(broken)
		now, said = now.Add(rereadSecrets), ""
		assert.Equal(t, 2, file.secrets().Len(), "a file that is being written keeps nobody out")
		assert.Contains(t, said, "keeping the webhook secrets")
	}
	write("a secret of tomorrow\n")
	now = now.Add(rereadSecrets)
	assert.Equal(t, 1, file.secrets().Len())
	assert.NotContains(t, said, "tomorrow")
}
