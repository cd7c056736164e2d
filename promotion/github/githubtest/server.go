// Package githubtest is a GitHub server for tests.
//
// Call New, then Server.Create for a repository. Pull requests, statuses,
// comments and deployments are kept in memory; branches and merges are those of
// a real bare repository, which the server also serves by smart HTTP. As on
// GitHub the pull requests follow the repository: what is pushed moves, merges or
// closes them. The API is at URL/api/v3 (and URL/api/graphql, for who the token
// belongs to), Git at URL/OWNER/NAME.git, with the same tokens. What the adapter,
// octokit and `gh api` ask for is known; of GraphQL only who asks.
//
// Faults, exhausted rate limits, protected branches and renamed repositories are
// had by asking for them. The server never calls the network but for the webhooks
// that a test asks for, and it is no model of what GitHub permits whom: a token
// may read, write, or neither.
package githubtest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	apiPrefix  = "/api/v3"
	maxRequest = 1 << 20 // bytes of a request's body
	quota      = 5000    // requests an hour
)

// Access is what a token may do with the server's repositories.
type Access int

// The degrees of access.
const (
	NoAccess Access = iota // repositories look as if they did not exist
	Read
	Write
)

// identity is who a token belongs to.
type identity struct {
	id     int64
	login  string
	kind   string // User or Bot
	access Access
}

// Request is one request that the API has answered.
type Request struct {
	Method string
	Path   string // without /api/v3
	Status int
}

// String is METHOD PATH STATUS.
func (r Request) String() string { return fmt.Sprintf("%s %s %d", r.Method, r.Path, r.Status) }

// Fault makes the server misbehave for the requests that it matches.
type Fault struct {
	Method string         // "": any
	Path   *regexp.Regexp // nil: any; without /api/v3
	Times  int            // how often; 0: always
	Status int            // what is answered
	Header http.Header
	Body   string
	After  bool // only after the request was carried out: its answer is lost
	Hang   bool // no answer at all, until the client gives up
}

func (f *Fault) matches(method, path string) bool {
	return (f.Method == "" || f.Method == method) && (f.Path == nil || f.Path.MatchString(path))
}

// T is what the server needs of the test that it runs in, which may be a
// *testing.T or a script.
type T interface {
	Helper()
	TempDir() string
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Server is a GitHub for tests.
type Server struct {
	URL string

	t    T
	root string // of the bare repositories
	mux  *http.ServeMux

	mu       sync.Mutex
	repos    map[string]*Repository // by full name
	renamed  map[string]string      // full names, old to new
	tokens   map[string]identity
	apps     []*App
	faults   []*Fault
	before   map[string]func() // by method
	outside  map[string]bool   // logins that do not belong to the repositories
	requests []Request
	lastID   int64
	used     int
	left     int
	reset    time.Time
	hooks    *deliveries
}

// New starts a server that ends with the test.
func New(t T) *Server {
	t.Helper()
	s := &Server{
		t: t, root: t.TempDir(), mux: http.NewServeMux(), repos: map[string]*Repository{}, renamed: map[string]string{},
		tokens: map[string]identity{}, before: map[string]func(){}, outside: map[string]bool{}, left: quota, reset: time.Now().Add(time.Hour), hooks: newDeliveries(),
	}
	s.routes()
	web := httptest.NewServer(s)
	s.URL = web.URL
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
		s.hooks.close()
	})
	return s
}

// Token makes a token of a user.
func (s *Server) Token(login string, access Access) string {
	return s.token("ghp_", login, "User", access)
}

func (s *Server) token(prefix, login, kind string, access Access) string {
	token := prefix + random(18)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = identity{id: s.id(), login: login, kind: kind, access: access}
	return token
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// App is a GitHub App and its one installation.
type App struct {
	ID, Installation int64
	Slug             string
	Key              []byte // PEM

	public *rsa.PublicKey
	access Access
}

// Inject adds a fault. Faults are tried in the order they were added.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Times == 0 {
		f.Times = -1
	}
	s.faults = append(s.faults, &f)
}

// Before runs f before each request of a method, as others do at just that moment.
func (s *Server) Before(method string, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before[method] = f
}

// Outsider makes a user one who does not belong to the repositories.
func (s *Server) Outsider(login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outside[login] = true
}

// Exhaust leaves n requests until reset, when the quota is full again.
func (s *Server) Exhaust(n int, reset time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.reset = n, reset
}

// Throttle answers the next requests of a method as GitHub's secondary rate limit does.
func (s *Server) Throttle(method string, times, status int, retryAfter time.Duration) {
	s.Inject(Fault{Method: method, Times: times, Status: status,
		Header: http.Header{"Retry-After": {fmt.Sprint(int(retryAfter.Seconds()))}},
		Body: `{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",` +
			`"documentation_url":"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`})
}

// Requests returns what the API was asked since the last call, and forgets it.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.requests
	s.requests = nil
	return list
}

// Used counts the requests that the rate limit was charged for.
func (s *Server) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

func (s *Server) id() int64 {
	s.lastID++
	return s.lastID
}

// now is the time in the resolution that GitHub reports.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// ServeHTTP implements http.Handler, so that tests can put themselves in between.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path, ok := strings.CutPrefix(r.URL.Path, apiPrefix); ok {
		s.api(w, r, path)
		return
	}
	if r.URL.Path == "/api/graphql" {
		s.api(w, r, "/graphql")
		return
	}
	s.git(w, r)
}

// api answers one request of the REST API.
func (s *Server) api(w http.ResponseWriter, r *http.Request, path string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil {
		return
	}
	s.mu.Lock()
	before := s.before[r.Method]
	s.mu.Unlock()
	if before != nil {
		before()
	}
	fault := s.fault(r.Method, path)
	if fault != nil && fault.Hang {
		<-r.Context().Done()
		return
	}
	answer := httptest.NewRecorder()
	if fault == nil || fault.After {
		inner := r.Clone(r.Context())
		inner.URL.Path, inner.URL.RawPath, inner.Body = path, "", io.NopCloser(bytes.NewReader(body))
		s.answer(answer, inner, body)
	}
	if fault != nil {
		answer = httptest.NewRecorder()
		answer.Header().Set("Content-Type", "application/json; charset=utf-8")
		for name, values := range fault.Header {
			answer.Header()[name] = values
		}
		answer.WriteHeader(fault.Status)
		answer.WriteString(fault.Body)
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: path, Status: answer.Code})
	s.mu.Unlock()
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// fault returns the fault that is next for a request, nil when there is none.
func (s *Server) fault(method, path string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Times == 0 || !f.matches(method, path) {
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return f
	}
	return nil
}

// call is one request on its way to its answer.
type call struct {
	*http.Request
	s      *Server
	who    identity
	repo   *Repository
	body   []byte
	header http.Header // of the answer
}

// apiError is an answer that refuses.
type apiError struct {
	status  int
	message string
	errors  []doc
	header  http.Header
}

func (e *apiError) Error() string { return e.message }

func refuse(status int, format string, args ...any) *apiError {
	return &apiError{status: status, message: fmt.Sprintf(format, args...)}
}

// invalid is a 422 with GitHub's description of what is wrong.
func invalid(resource, field, code, message string) *apiError {
	e := doc{"resource": resource, "code": code}
	if field != "" {
		e["field"] = field
	}
	if message != "" {
		e["message"] = message
	}
	return &apiError{status: http.StatusUnprocessableEntity, message: "Validation Failed", errors: []doc{e}}
}

var errNotFound = refuse(http.StatusNotFound, "Not Found")

// decode reads the request's body; unknown fields are ignored, as GitHub does.
func (c *call) decode(into any) error {
	if len(c.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, into); err != nil {
		return refuse(http.StatusBadRequest, "Problems parsing JSON")
	}
	return nil
}

// answer charges, authenticates and routes a request.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !time.Now().Before(s.reset) {
		s.left, s.reset = quota, time.Now().Add(time.Hour)
	}
	if s.left <= 0 && r.URL.Path != "/rate_limit" {
		s.charge(w.Header(), 0)
		s.write(w, r, 0, nil, refuse(http.StatusForbidden, "API rate limit exceeded for user ID 1."))
		return
	}
	who, err := s.authenticate(r)
	if err != nil {
		s.charge(w.Header(), 1)
		s.write(w, r, 0, nil, err)
		return
	}
	c := &call{Request: r, s: s, who: who, body: body, header: w.Header()}
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.charge(w.Header(), 1)
		s.write(w, r, 0, nil, errNotFound)
		return
	}
	s.mux.ServeHTTP(w, r.WithContext(withCall(r.Context(), c)))
}

// charge counts a request against the quota and tells how it stands.
func (s *Server) charge(h http.Header, n int) {
	s.used, s.left = s.used+n, s.left-n
	h.Set("X-RateLimit-Limit", fmt.Sprint(quota))
	h.Set("X-RateLimit-Remaining", fmt.Sprint(max(0, s.left)))
	h.Set("X-RateLimit-Used", fmt.Sprint(quota-max(0, s.left)))
	h.Set("X-RateLimit-Reset", fmt.Sprint(s.reset.Unix()))
	h.Set("X-RateLimit-Resource", "core")
}

// write sends a document, or the error in its place. A document that the client
// has already, by its ETag, is neither sent nor charged for.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, document any, err error) {
	if err != nil {
		status, document = s.refusal(w.Header(), err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-GitHub-Media-Type", "github.v3; format=json")
	if document == nil {
		w.Header().Del("Content-Type")
		w.WriteHeader(status)
		return
	}
	data, _ := json.Marshal(document)
	if r.Method == http.MethodGet && status == http.StatusOK {
		tag := etag(data)
		w.Header().Set("ETag", tag)
		if has(r.Header.Values("If-None-Match"), tag) {
			s.charge(w.Header(), -1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// has reports whether the ETags of a request have one, weakly compared.
func has(header []string, tag string) bool {
	for _, given := range strings.Split(strings.Join(header, ","), ",") {
		if strings.TrimPrefix(strings.TrimSpace(given), "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

func (s *Server) refusal(h http.Header, err error) (int, doc) {
	e, ok := err.(*apiError)
	if !ok {
		s.t.Errorf("githubtest: %v", err)
		e = refuse(http.StatusInternalServerError, "Server Error")
	}
	for name, values := range e.header {
		h[name] = values
	}
	d := doc{"message": e.message, "documentation_url": "https://docs.github.com/rest", "status": fmt.Sprint(e.status)}
	if len(e.errors) > 0 {
		d["errors"] = e.errors
	}
	return e.status, d
}
