package webhook

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
)

// Kind is what an event is about.
type Kind string

// The kinds of events.
const (
	Push        Kind = "push"         // a ref was moved, made or deleted
	PullRequest Kind = "pull_request" // anything about a pull request, its reviews too
	Check       Kind = "check"        // a commit has another status or check
	Ping        Kind = "ping"         // the forge tries the address
	Anything    Kind = "anything"     // made by Triggers: more than it can tell apart
)

// Event is something to look at. The field that goes with its kind is set, and
// is well-formed; whether there is such a thing is for the forge to say.
type Event struct {
	Kind   Kind
	Ref    string // of a Push: the full name
	Number int    // of a PullRequest
	Commit string // of a Check: the full hash
}

// eventHeaders name the kind. Gitea and Forgejo send GitHub's as well, with a
// coarser name. X-Sluice-Event is for senders of one's own, who write payloads as
// GitHub does: {"ref": …}, {"number": …} or {"sha": …}.
var eventHeaders = []string{"X-Forgejo-Event", "X-Gitea-Event", "X-GitHub-Event", "X-Sluice-Event"}

// payload is what any of the forges sends of what is needed.
type payload struct {
	Ref         string      `json:"ref"`
	Number      json.Number `json:"number"`
	PullRequest struct {
		Number json.Number `json:"number"`
	} `json:"pull_request"`
	SHA      string `json:"sha"`
	CheckRun struct {
		HeadSHA string `json:"head_sha"`
	} `json:"check_run"`
	CheckSuite struct {
		HeadSHA string `json:"head_sha"`
	} `json:"check_suite"`
}

var (
	errPayload = errors.New("not the payload of a webhook")

	refFormat    = regexp.MustCompile(`^refs/[^\x00-\x20\x7f ~^:?*\[\\]{1,250}$`)
	commitFormat = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// parse reads an event; known is false for one of no interest. An error means
// that the body is not what its kind has.
func parse(header http.Header, body []byte) (e Event, known bool, err error) {
	if len(body) == 0 || body[0] != '{' || !json.Valid(body) {
		return Event{}, false, errPayload
	}
	name := eventName(header)
	switch {
	case name == "ping":
		return Event{Kind: Ping}, true, nil
	case name == "push":
		e.Kind = Push
	case strings.HasPrefix(name, "pull_request"):
		e.Kind = PullRequest
	case name == "status", name == "check_run", name == "check_suite":
		e.Kind = Check
	default:
		return Event{}, false, nil
	}
	var p payload
	if json.Unmarshal(body, &p) != nil {
		return Event{}, false, errPayload
	}
	ok := false
	switch e.Kind {
	case Push:
		e.Ref, ok = p.Ref, refFormat.MatchString(p.Ref)
	case PullRequest:
		e.Number, ok = number(p.Number, p.PullRequest.Number)
	case Check:
		e.Commit = firstOf(p.SHA, p.CheckRun.HeadSHA, p.CheckSuite.HeadSHA)
		ok = commitFormat.MatchString(e.Commit)
	}
	if !ok {
		return Event{}, false, errPayload
	}
	return e, true, nil
}

func eventName(header http.Header) string {
	for _, name := range eventHeaders {
		if value := header.Get(name); value != "" {
			return value
		}
	}
	return ""
}

// number is the first of the numbers that is there, when it can be one of a pull
// request.
func number(candidates ...json.Number) (int, bool) {
	for _, c := range candidates {
		if c != "" {
			n, err := c.Int64()
			return int(n), err == nil && n > 0 && n < 1<<31
		}
	}
	return 0, false
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
