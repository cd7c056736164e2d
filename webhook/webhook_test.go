package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

const (
	current  = "0123456789abcdef-current"
	previous = "0123456789abcdef-previous"
	commit   = "3f2a9c0d41e73f2a9c0d41e73f2a9c0d41e73f2a"
	push     = `{"ref":"refs/heads/main"}`
)

func secretsOf(t testing.TB, list ...string) Secrets {
	t.Helper()
	s, err := ParseSecrets([]byte(strings.Join(list, "\n")))
	require.NoError(t, err)
	return s
}

func sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// bench is a handler and what it delivered.
type bench struct {
	handler *Handler
	secrets Secrets
	now     time.Time

	mu     sync.Mutex
	events []Event
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{secrets: secretsOf(t, current, previous), now: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)}
	handler, err := New(Options{
		Secrets: func() Secrets { return b.secrets },
		Now:     func() time.Time { return b.now },
		Deliver: func(e Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		},
	})
	require.NoError(t, err)
	b.handler = handler
	return b
}

// request is an authentic one of GitHub, which change may spoil.
func request(body string, change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", "push")
	r.Header.Set("X-Hub-Signature-256", "sha256="+sign(current, []byte(body)))
	for _, c := range change {
		c(r)
	}
	return r
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) {
		if r.Header.Del(name); value != "" {
			r.Header.Set(name, value)
		}
	}
}

// send returns the status, and checks that the answer tells no more.
func (b *bench) send(t testing.TB, r *http.Request) int {
	t.Helper()
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	assert.Empty(t, w.Body.String())
	for name := range w.Header() {
		assert.Contains(t, []string{"Allow", "Connection"}, name)
	}
	return w.Code
}

// take returns what was delivered since the last call.
func (b *bench) take() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

func TestEvents(t *testing.T) {
	tests := []struct {
		event, body string
		want        []Event
	}{
		{"push", push, []Event{{Kind: Push, Ref: "refs/heads/main"}}},
		{"pull_request", `{"action":"opened","number":12}`, []Event{{Kind: PullRequest, Number: 12}}},
		{"pull_request_review", `{"pull_request":{"number":12}}`, []Event{{Kind: PullRequest, Number: 12}}},
		{"pull_request_sync", `{"number":12}`, []Event{{Kind: PullRequest, Number: 12}}},
		{"status", `{"sha":"` + commit + `"}`, []Event{{Kind: Check, Commit: commit}}},
		{"check_run", `{"check_run":{"head_sha":"` + commit + `"}}`, []Event{{Kind: Check, Commit: commit}}},
		{"check_suite", `{"check_suite":{"head_sha":"` + commit + `"}}`, []Event{{Kind: Check, Commit: commit}}},
		{"ping", `{"zen":"x"}`, []Event{{Kind: Ping}}},
		{"star", `{"ref":"refs/heads/main"}`, nil},
		{"", push, nil},
	}
	for _, tt := range tests {
		for _, name := range eventHeaders {
			b := newBench(t)
			r := request(tt.body, header("X-GitHub-Event", ""), header(name, tt.event))
			assert.Equal(t, http.StatusAccepted, b.send(t, r), "%s %s", name, tt.event)
			assert.Equal(t, tt.want, b.take(), "%s %s", name, tt.event)
		}
	}
}

// Authentic or not, a payload of another shape is refused and nothing panics: Argo CD
// CVE-2025-59531.
func TestAttackMalformedWebhooks(t *testing.T) {
	for _, tt := range []struct{ event, body string }{
		{"push", ``}, {"push", `[]`}, {"push", `"x"`}, {"push", `{`}, {"push", push + push}, {"star", `not JSON`},
		{"push", `{}`}, {"push", `{"ref":1}`}, {"push", `{"ref":"main"}`}, {"push", `{"ref":"refs/heads/a b"}`}, {"push", `{"ref":"refs/heads/a\u0000"}`},
		{"push", `{"ref":"refs/` + strings.Repeat("x", 1000) + `"}`},
		{"pull_request", `{}`}, {"pull_request", `{"number":0}`}, {"pull_request", `{"number":-1}`}, {"pull_request", `{"number":1.5}`},
		{"pull_request", `{"number":99999999999999999999}`}, {"pull_request", `{"pull_request":[]}`},
		{"status", `{}`}, {"status", `{"sha":"main"}`}, {"check_run", `{"check_run":{"head_sha":"` + strings.ToUpper(commit) + `"}}`},
	} {
		b := newBench(t)
		assert.Equal(t, http.StatusBadRequest, b.send(t, request(tt.body, header("X-GitHub-Event", tt.event))), "%s %s", tt.event, tt.body)
		assert.Empty(t, b.take())
	}
}

// Only who knows the secret is believed: Fleet CVE-2026-44937.
func TestAttackForgedWebhooks(t *testing.T) {
	good := sign(current, []byte(push))
	legacy := hmac.New(sha1.New, []byte(current))
	legacy.Write([]byte(push))
	only := func(name, value string) []func(*http.Request) {
		return []func(*http.Request){header("X-Hub-Signature-256", ""), header(name, value)}
	}
	tests := map[string]struct {
		change []func(*http.Request)
		want   int
	}{
		"GitHub":                     {nil, http.StatusAccepted},
		"the previous secret":        {only("X-Hub-Signature-256", "sha256="+sign(previous, []byte(push))), http.StatusAccepted},
		"Gitea":                      {only("X-Gitea-Signature", good), http.StatusAccepted},
		"Forgejo":                    {only("X-Forgejo-Signature", good), http.StatusAccepted},
		"another sender":             {only("X-Sluice-Signature-256", "sha256="+good), http.StatusAccepted},
		"two that agree":             {[]func(*http.Request){header("X-Gitea-Signature", good)}, http.StatusAccepted},
		"none":                       {only("X-Other", ""), http.StatusUnauthorized},
		"SHA-1":                      {only("X-Hub-Signature", "sha1="+hex.EncodeToString(legacy.Sum(nil))), http.StatusUnauthorized},
		"SHA-1 where SHA-256 belong": {only("X-Hub-Signature-256", "sha1="+hex.EncodeToString(legacy.Sum(nil))), http.StatusUnauthorized},
		"without the prefix":         {only("X-Hub-Signature-256", good), http.StatusUnauthorized},
		"empty":                      {only("X-Hub-Signature-256", "sha256="), http.StatusUnauthorized},
		"no hexadecimal":             {only("X-Gitea-Signature", strings.Repeat("x", 64)), http.StatusUnauthorized},
		"another secret":             {only("X-Hub-Signature-256", "sha256="+sign("somebody else's secret", []byte(push))), http.StatusUnauthorized},
		"no secret":                  {only("X-Hub-Signature-256", "sha256="+sign("", []byte(push))), http.StatusUnauthorized},
		"of another body":            {only("X-Hub-Signature-256", "sha256="+sign(current, []byte("{}"))), http.StatusUnauthorized},
		"two that disagree":          {[]func(*http.Request){header("X-Gitea-Signature", sign("somebody else's secret", []byte(push)))}, http.StatusUnauthorized},
		"two of two secrets":         {[]func(*http.Request){header("X-Gitea-Signature", sign(previous, []byte(push)))}, http.StatusUnauthorized},
		"a list of guesses": {[]func(*http.Request){func(r *http.Request) {
			for range 100 {
				r.Header.Add("X-Gitea-Signature", good)
			}
		}}, http.StatusUnauthorized},
	}
	for name, tt := range tests {
		b := newBench(t)
		assert.Equal(t, tt.want, b.send(t, request(push, tt.change...)), name)
		assert.Equal(t, tt.want == http.StatusAccepted, len(b.take()) == 1, name)
	}
}

func TestRotation(t *testing.T) {
	b := newBench(t)
	old := func() *http.Request {
		return request(push, header("X-Hub-Signature-256", "sha256="+sign(previous, []byte(push))), header("X-GitHub-Delivery", fmt.Sprint(b.now)))
	}
	assert.Equal(t, http.StatusAccepted, b.send(t, old()))
	b.secrets = secretsOf(t, current)
	assert.Equal(t, http.StatusUnauthorized, b.send(t, old()))
	b.secrets = Secrets{}
	assert.Equal(t, http.StatusUnauthorized, b.send(t, request(push)))
	assert.Equal(t, http.StatusUnauthorized, b.send(t, request(push, header("X-Hub-Signature-256", "sha256="+sign("", []byte(push))))))
}

// What is not authentic, or too long, is not even read: Argo CD CVE-2024-40634.
func TestAttackEndlessWebhooks(t *testing.T) {
	unread := func(r *http.Request) { r.Body = io.NopCloser(unreadable{t}) }
	long := strings.Repeat(" ", MaxBody+1)
	tests := map[string]struct {
		request *http.Request
		want    int
	}{
		"GET":                     {request(push, func(r *http.Request) { r.Method = http.MethodGet }, unread), http.StatusMethodNotAllowed},
		"PUT":                     {request(push, func(r *http.Request) { r.Method = http.MethodPut }, unread), http.StatusMethodNotAllowed},
		"a form":                  {request(push, header("Content-Type", "application/x-www-form-urlencoded"), unread), http.StatusUnsupportedMediaType},
		"no type":                 {request(push, header("Content-Type", ""), unread), http.StatusUnsupportedMediaType},
		"a type with a parameter": {request(push, header("Content-Type", "application/json; charset=utf-8")), http.StatusAccepted},
		"a length over the bound": {request(push, func(r *http.Request) { r.ContentLength = MaxBody + 1 }, unread), http.StatusRequestEntityTooLarge},
		"no length, and too long": {request(long, func(r *http.Request) { r.ContentLength = -1 }), http.StatusRequestEntityTooLarge},
		"no signature":            {request(push, header("X-Hub-Signature-256", ""), unread), http.StatusUnauthorized},
		"a body that breaks off": {request(push, func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{}))
		}), http.StatusBadRequest},
	}
	for name, tt := range tests {
		b := newBench(t)
		assert.Equal(t, tt.want, b.send(t, tt.request), name)
		assert.Equal(t, tt.want == http.StatusAccepted, len(b.take()) == 1, name)
	}
}

// unreadable is a body that must not be read.
type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Bodies that trickle in take no more than MaxReading of them may.
func TestBodiesThatAreReadAtOnce(t *testing.T) {
	b := newBench(t)
	var group sync.WaitGroup
	var writers []*io.PipeWriter
	for range MaxReading {
		reader, writer := io.Pipe()
		writers = append(writers, writer)
		group.Go(func() { b.send(t, request(push, func(r *http.Request) { r.Body = reader })) })
		_, err := writer.Write([]byte("{")) // returns when it is being read
		require.NoError(t, err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, http.StatusTooManyRequests, b.send(t, request(push).WithContext(impatient)))
	waiting := make(chan int, 1)
	go func() { waiting <- b.send(t, request(push)) }()
	for _, writer := range writers {
		require.NoError(t, writer.Close())
	}
	group.Wait()
	assert.Equal(t, http.StatusAccepted, <-waiting)
}

// A body is held until its signature was compared, which takes longer than to read
// it: those who wait for that count as well.
func TestBodiesThatAreJudgedAtOnce(t *testing.T) {
	entered, leave := make(chan struct{}, MaxReading+1), make(chan struct{})
	secrets, err := ParseSecrets([]byte(current))
	require.NoError(t, err)
	asked := false // by New
	handler, err := New(Options{Deliver: func(Event) {}, Secrets: func() Secrets {
		if asked {
			entered <- struct{}{}
			<-leave
		}
		return secrets
	}})
	require.NoError(t, err)
	asked = true
	b := &bench{handler: handler}
	var group sync.WaitGroup
	for range MaxReading {
		group.Go(func() { assert.Equal(t, http.StatusAccepted, b.send(t, request(push))) })
	}
	for range MaxReading {
		<-entered
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	late := make(chan int, 1)
	go func() { late <- b.send(t, request(push).WithContext(impatient)) }()
	select {
	case status := <-late:
		assert.Equal(t, http.StatusTooManyRequests, status)
	case <-entered:
		t.Error("one more holds a body")
	}
	close(leave)
	group.Wait()
}

func TestReplays(t *testing.T) {
	b := newBench(t)
	for _, name := range deliveryHeaders {
		for range 3 {
			assert.Equal(t, http.StatusAccepted, b.send(t, request(push, header(name, "id of "+name))))
			b.now = b.now.Add(time.Hour)
		}
	}
	assert.Len(t, b.take(), len(deliveryHeaders), "each delivery once")

	for range 3 {
		assert.Equal(t, http.StatusAccepted, b.send(t, request(push)))
		b.now = b.now.Add(time.Second)
	}
	assert.Len(t, b.take(), 1, "without an id, the same body is the same delivery")
	b.now = b.now.Add(repetition)
	b.send(t, request(push))
	assert.Len(t, b.take(), 1, "but not for ever")

	b.send(t, request(push, header("X-Hub-Signature-256", "sha256="+sign("somebody else's secret", []byte(push))), header("X-GitHub-Delivery", "new")))
	b.send(t, request(push, header("X-GitHub-Delivery", "new")))
	assert.Len(t, b.take(), 1, "what is not authentic uses up no id")
}

func TestDeliveriesAreBounded(t *testing.T) {
	b := newBench(t)
	for i := range 2*maxDeliveries + 10 {
		b.handler.seen.first(http.Header{"X-Github-Delivery": {fmt.Sprint(i)}}, nil)
	}
	assert.Len(t, b.handler.seen.byKey, maxDeliveries)
	assert.Equal(t, maxDeliveries, b.handler.seen.recent.Len())
}

func TestNewRefusesToBelieveEverybody(t *testing.T) {
	for _, s := range []Secrets{{}, {list: [][]byte{{}}}, {list: [][]byte{[]byte(current), nil}}} {
		_, err := New(Options{Secrets: func() Secrets { return s }})
		require.ErrorIs(t, err, ErrNoSecret)
	}
}

func TestParseSecrets(t *testing.T) {
	s, err := ParseSecrets([]byte("\n  " + current + "\r\n\n" + previous))
	require.NoError(t, err)
	assert.Equal(t, 2, s.Len())
	assert.True(t, s.signed([][]byte{hmacOf(current)}, []byte(push)))
	for _, printed := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, s, s, s)} {
		assert.NotContains(t, printed, current)
		assert.NotContains(t, printed, hex.EncodeToString([]byte(current)))
	}
	_, err = json.Marshal(s)
	require.Error(t, err)

	for text, want := range map[string]string{
		"":                               "no secret",
		" \n\r\n":                        "no secret",
		current + "\nshort":              "line 2: a secret has at least 16",
		strings.Repeat("x", 2000):        "line 1: a secret has at most",
		strings.Repeat(current+"\n", 11): "more than 10",
	} {
		_, err := ParseSecrets([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

func hmacOf(secret string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(push))
	return mac.Sum(nil)
}

func FuzzHandler(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("push", []byte(push), "sha256=00", true)
	f.Add("pull_request", []byte(`{"number":1,"pull_request":{"number":2}}`), "", true)
	f.Add("status", []byte(`{"sha":"`+commit+`"}`), "", true)
	f.Add("check_run", []byte(`{"check_run":{"head_sha":"x"}}`), "", false)
	f.Fuzz(func(t *testing.T, event string, body []byte, signature string, authentic bool) {
		b := newBench(t)
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header = http.Header{"Content-Type": {"application/json"}, "X-Github-Event": {event}, "X-Hub-Signature-256": {signature}}
		if authentic {
			r.Header["X-Hub-Signature-256"] = []string{"sha256=" + sign(current, body)}
		}
		status := b.send(t, r)
		events := b.take()
		if !authentic {
			assert.Equal(t, http.StatusUnauthorized, status)
			assert.Empty(t, events)
			return
		}
		assert.Contains(t, []int{http.StatusAccepted, http.StatusBadRequest}, status)
		for _, e := range events {
			assert.True(t, json.Valid(body))
			assert.True(t, e.Kind == Ping || e.Kind == Push && refFormat.MatchString(e.Ref) ||
				e.Kind == PullRequest && e.Number > 0 || e.Kind == Check && commitFormat.MatchString(e.Commit), "%+v", e)
		}
	})
}

func FuzzParseSecrets(ff *testing.F) {
	f := mutants.New(ff)
	f.Add([]byte(current + "\n" + previous))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSecrets(text)
		assert.Equal(t, err != nil, s.empty())
		assert.LessOrEqual(t, s.Len(), maxSecrets)
	})
}
