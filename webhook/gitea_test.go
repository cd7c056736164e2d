package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/testgitea"
	"github.com/sluice-dev/sluice/webhook"
)

// What a real Gitea sends is verified and understood; what it signs with another secret is
// refused.
func TestEventsOfGitea(t *testing.T) {
	server := testgitea.Start(t)
	repository := server.Repository(t)
	const secret = "0123456789abcdef-of-a-test"
	secrets, err := webhook.ParseSecrets([]byte(secret))
	require.NoError(t, err)
	events := make(chan webhook.Event, 100)
	handler, err := webhook.New(webhook.Options{
		Secrets: func() webhook.Secrets { return secrets }, Deliver: func(e webhook.Event) { events <- e },
	})
	require.NoError(t, err)
	answers := make(chan int, 100)
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("/forged", func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		w.WriteHeader(answer.Code)
		answers <- answer.Code
	})
	receiver := httptest.NewServer(mux)
	t.Cleanup(receiver.Close)
	hook := func(path, secret string, events ...string) {
		server.Must(t, http.MethodPost, repository.API("/hooks"), map[string]any{
			"type": "gitea", "active": true, "events": events,
			"config": map[string]string{"url": receiver.URL + path, "content_type": "json", "secret": secret},
		}, nil)
	}
	hook("", secret, "push", "pull_request", "status", "issues")
	hook("/forged", "somebody else knows this", "push")
	await := func(want webhook.Event) {
		t.Helper()
		deadline := time.After(2 * time.Minute)
		for {
			select {
			case e := <-events:
				if e == want {
					return
				}
			case <-deadline:
				t.Fatalf("no event %+v", want)
			}
		}
	}

	var made struct{ Commit struct{ SHA string } }
	server.Must(t, http.MethodPost, repository.API("/contents/file"), map[string]any{
		"message": "Change", "content": "eA==", "new_branch": "other",
	}, &made)
	await(webhook.Event{Kind: webhook.Push, Ref: "refs/heads/other"})
	assert.Len(t, made.Commit.SHA, 40)
	select {
	case code := <-answers:
		assert.Equal(t, http.StatusUnauthorized, code)
	case <-time.After(2 * time.Minute):
		t.Fatal("the other hook was not called")
	}
	server.Must(t, http.MethodPost, repository.API("/statuses/"+made.Commit.SHA), map[string]any{"state": "success", "context": "ci"}, nil)
	await(webhook.Event{Kind: webhook.Check, Commit: made.Commit.SHA})
	server.Must(t, http.MethodPost, repository.API("/issues"), map[string]any{"title": "Of no interest"}, nil)
	var pull struct{ Number int }
	server.Must(t, http.MethodPost, repository.API("/pulls"), map[string]any{"title": "Change", "head": "other", "base": "main"}, &pull)
	await(webhook.Event{Kind: webhook.PullRequest, Number: pull.Number})
}
