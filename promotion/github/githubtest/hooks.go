package githubtest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const noCommit = "0000000000000000000000000000000000000000"

// hook is a webhook of a repository.
type hook struct {
	url, secret string
	events      []string
}

// Hook makes the repository send events (push, pull_request, status) to a URL,
// signed with secret, in the order in which they happened. Answers are ignored,
// and nothing is sent twice.
func (r *Repository) Hook(url, secret string, events ...string) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.hooks = append(r.hooks, hook{url, secret, events})
}

// Delivered waits until everything that has happened so far was sent.
func (s *Server) Delivered() { s.hooks.wait() }

// announce sends an event to the hooks that ask for it.
func (r *Repository) announce(event string, payload doc) {
	payload["repository"] = r.s.repository(r)
	payload["sender"] = r.s.user(identity{id: 1, login: r.owner(), kind: "User"})
	data, err := json.Marshal(payload)
	if err != nil {
		r.s.t.Errorf("githubtest: %v", err)
		return
	}
	for _, h := range r.hooks {
		if slices.Contains(h.events, event) {
			r.s.hooks.send(h, event, data)
		}
	}
}

func (r *Repository) announcePull(p *pull, action string) {
	r.announce("pull_request", doc{"action": action, "number": p.number, "pull_request": r.pullSimple(p)})
}

func (r *Repository) announceStatus(commit string, st *status) {
	r.announce("status", doc{"sha": commit, "state": st.state, "context": st.context, "description": st.description, "name": r.name})
}

// announcePushes tells which branches are not where they were.
func (r *Repository) announcePushes(before map[string]string) {
	all := maps.Clone(before)
	maps.Copy(all, r.refs)
	for _, branch := range slices.Sorted(maps.Keys(all)) {
		old, new := before[branch], r.refs[branch]
		if old == new {
			continue
		}
		payload := doc{"ref": heads + branch, "before": old, "after": new, "created": old == "", "deleted": new == "", "forced": false}
		if old == "" {
			payload["before"] = noCommit
		}
		if new == "" {
			payload["after"] = noCommit
		}
		r.announce("push", payload)
	}
}

// deliveries sends events one after the other.
type deliveries struct {
	queue  chan *http.Request
	open   sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

func newDeliveries() *deliveries {
	d := &deliveries{queue: make(chan *http.Request, 1000)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	go d.run()
	return d
}

func (d *deliveries) run() {
	client := &http.Client{Timeout: 10 * time.Second}
	for request := range d.queue {
		if answer, err := client.Do(request); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxRequest))
			answer.Body.Close()
		}
		d.open.Done()
	}
}

func (d *deliveries) send(h hook, event string, data []byte) {
	request, err := http.NewRequestWithContext(d.ctx, http.MethodPost, h.url, bytes.NewReader(data))
	if err != nil {
		return
	}
	mac := hmac.New(sha256.New, []byte(h.secret))
	mac.Write(data)
	id := random(16)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "GitHub-Hookshot/githubtest")
	request.Header.Set("X-GitHub-Event", event)
	request.Header.Set("X-GitHub-Delivery", strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-"))
	request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	d.open.Add(1)
	d.queue <- request
}

func (d *deliveries) wait() { d.open.Wait() }

func (d *deliveries) close() {
	d.cancel()
	close(d.queue)
}
