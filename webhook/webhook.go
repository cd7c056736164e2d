// Package webhook turns authenticated webhooks of a forge into events.
//
// Read the secrets with ParseSecrets, make a Handler with New, and serve it; it
// hands every event to a function, usually Triggers.Add, and whoever acts on
// them reads Triggers.
//
// A request is believed when it carries an HMAC with SHA-256 of its body under
// one of the secrets; SHA-1 does not count. Headers are not part of what is
// signed, so an event is only ever a reason to go and look: it carries no
// content, and nothing may be decided by it. The answer tells nothing but
// whether the request was taken.
//
// The package never reads more of a body than MaxBody, never keeps a body, and
// never logs.
package webhook

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"
)

const (
	// MaxBody is the longest body that is read, in bytes. Forges send less, but
	// for pushes of thousands of commits, which the next poll sees.
	MaxBody = 4 << 20
	// MaxReading is how many bodies are read or judged at the same moment; others
	// wait. So what nobody has signed yet takes no more memory than that many.
	MaxReading = 8

	maxWait = 5 * time.Second // for others to be read
)

// Options of a Handler.
type Options struct {
	// Secrets is asked at every request, so that they can be replaced while the
	// handler serves. While it returns none, nothing is believed.
	Secrets func() Secrets
	// Deliver takes an event, and must not block. It is called by several
	// goroutines.
	Deliver func(Event)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Handler is an http.Handler that takes webhooks of GitHub, Gitea and Forgejo, and
// of anything else that signs as they do: see the names of headers in
// signature.go and event.go. Its server should have timeouts.
type Handler struct {
	secrets func() Secrets
	deliver func(Event)
	seen    *deliveries
	reading chan struct{}
}

// ErrNoSecret is the refusal to believe everybody.
var ErrNoSecret = errors.New("no secret for webhooks")

// New returns a handler. It refuses to be without a secret: ErrNoSecret.
func New(o Options) (*Handler, error) {
	if o.Secrets().empty() {
		return nil, ErrNoSecret
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Handler{secrets: o.Secrets, deliver: o.Deliver, seen: newDeliveries(o.Now), reading: make(chan struct{}, MaxReading)}, nil
}

// ServeHTTP implements http.Handler. All answers have an empty body: 202 for
// what is authentic, be it an event, a repetition or of no interest, and a 4xx
// for the rest.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := h.serve(w, r)
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	w.WriteHeader(status)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) int {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType
	}
	if r.ContentLength > MaxBody {
		return http.StatusRequestEntityTooLarge
	}
	claims, ok := signatures(r.Header)
	if !ok {
		return http.StatusUnauthorized
	}
	if !h.enter(r.Context()) {
		return http.StatusTooManyRequests
	}
	defer func() { <-h.reading }()
	body, status := h.read(w, r)
	switch {
	case status != 0:
		return status
	case !h.secrets().signed(claims, body):
		return http.StatusUnauthorized
	}
	event, known, err := parse(r.Header, body)
	if err != nil {
		return http.StatusBadRequest
	}
	if known && h.seen.first(r.Header, body) {
		h.deliver(event)
	}
	return http.StatusAccepted
}

// enter waits until fewer than MaxReading others hold a body; false when that took
// too long.
func (h *Handler) enter(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case h.reading <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// read reads a body within the bounds; status is 0, or why it did not.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (body []byte, status int) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		return nil, http.StatusBadRequest
	}
	return body, 0
}
