package github_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// descriptionFile is GitHub's description of its API, which `make tools` cuts to the
// operations that are used here (dev/openapi).
const descriptionFile = "../../bin/openapi/api.github.com.json"

// description holds requests and answers against what GitHub publishes.
type description struct{ routes []route }

type route struct {
	routers.Route
	path *regexp.Regexp
}

var parameter = regexp.MustCompile(`\\\{(\w+)\\\}`)

// loadDescription returns nil when there is none.
var loadDescription = sync.OnceValues(func() (*description, error) {
	data, err := os.ReadFile(descriptionFile)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		return nil, err
	}
	d := &description{}
	for path, item := range doc.Paths.Map() {
		// A ref has slashes, all else has none.
		pattern := parameter.ReplaceAllStringFunc(regexp.QuoteMeta(path), func(p string) string {
			name := strings.Trim(p, `\{}`)
			if name == "ref" {
				return `(?P<ref>.+)`
			}
			return `(?P<` + name + `>[^/]+)`
		})
		for method, operation := range item.Operations() {
			d.routes = append(d.routes, route{
				Route: routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: operation},
				path:  regexp.MustCompile("^" + pattern + "$"),
			})
		}
	}
	// The longest first: issues/comments/{id} before issues/{number}/….
	slices.SortFunc(d.routes, func(a, b route) int {
		return cmp.Or(cmp.Compare(strings.Count(a.Path, "{"), strings.Count(b.Path, "{")), strings.Compare(a.Path, b.Path))
	})
	return d, nil
})

func (d *description) find(method, path string) (route, map[string]string, error) {
	for _, r := range d.routes {
		match := r.path.FindStringSubmatch(path)
		if r.Method != method || match == nil {
			continue
		}
		parameters := map[string]string{}
		for i, name := range r.path.SubexpNames() {
			if name != "" {
				parameters[name] = match[i]
			}
		}
		return r, parameters, nil
	}
	return route{}, nil, fmt.Errorf("GitHub describes no %s %s", method, path)
}

// check holds one exchange against the description.
func (d *description) check(r *http.Request, body []byte, answer *httptest.ResponseRecorder) error {
	path := strings.TrimPrefix(r.URL.Path, "/api/v3")
	found, parameters, err := d.find(r.Method, path)
	if err != nil {
		return err
	}
	request := r.Clone(r.Context())
	request.URL = &url.URL{Scheme: "https", Host: "api.github.com", Path: path, RawQuery: r.URL.RawQuery}
	request.Body = io.NopCloser(bytes.NewReader(body))
	input := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: parameters, Route: &found.Route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
	}
	if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
		return fmt.Errorf("request %s %s: %w", r.Method, path, err)
	}
	if err := known(found.Operation, r.URL.Query(), body); err != nil {
		return fmt.Errorf("request %s %s: %w", r.Method, path, err)
	}
	response := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: answer.Code, Header: answer.Header(), Options: input.Options,
	}
	response.SetBodyBytes(answer.Body.Bytes())
	if err := openapi3filter.ValidateResponse(r.Context(), response); err != nil {
		return fmt.Errorf("answer %d to %s %s: %w", answer.Code, r.Method, path, err)
	}
	return nil
}

// known refuses parameters and fields that GitHub does not describe: it would ignore
// them without a word.
func known(operation *openapi3.Operation, query url.Values, body []byte) error {
	for name := range query {
		if operation.Parameters.GetByInAndName("query", name) == nil {
			return fmt.Errorf("unknown parameter %q", name)
		}
	}
	var fields map[string]json.RawMessage
	if operation.RequestBody == nil || json.Unmarshal(body, &fields) != nil {
		return nil // an array, or nothing
	}
	schema := operation.RequestBody.Value.GetMediaType("application/json").Schema.Value
	for _, alternative := range slices.Concat(schema.OneOf, schema.AnyOf) {
		if len(alternative.Value.Properties) > 0 {
			schema = alternative.Value
		}
	}
	for name := range fields {
		if _, ok := schema.Properties[name]; !ok {
			return fmt.Errorf("unknown field %q", name)
		}
	}
	return nil
}

// checked is a server whose every exchange is held against GitHub's description, where
// there is one.
func checked(t *testing.T, server *githubtest.Server) http.Handler {
	t.Helper()
	d, err := loadDescription()
	require.NoError(t, err)
	if d == nil {
		return server
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, r)
		if r.URL.Path != "/api/graphql" && answer.Code != http.StatusNotModified {
			assert.NoError(t, d.check(r, body, answer))
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// described is where a server answers whose every exchange is checked.
func described(t *testing.T, server *githubtest.Server) (frontURL string) {
	t.Helper()
	front := httptest.NewServer(checked(t, server))
	t.Cleanup(front.Close)
	return front.URL
}

// TestOpenAPI asks the test server for everything that it knows, by hand: the
// conformance suite does the same with what the adapter asks for.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	d, err := loadDescription()
	require.NoError(t, err)
	if d == nil {
		t.Skip("GitHub's OpenAPI description is not in bin/openapi: `make tools` puts it there, and needs npm")
	}
	server := githubtest.New(t)
	repo := server.Create("shop/environments")
	repo.Seed()
	token := server.Token("ada", githubtest.Write)
	base := described(t, server) + "/api/v3"
	ask := func(method, path, body string, want int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, want, res.StatusCode, "%s %s: %s", method, path, data)
		return string(data)
	}
	git := func(args ...string) string { return gitOutput(t, repo.Dir, args...) }
	start := git("rev-parse", "main")
	head := git("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit-tree", start+"^{tree}", "-p", start, "-m", "Change")
	git("update-ref", "refs/heads/sluice/promote/staging/api", head)

	at := "/repos/shop/environments"
	ask("GET", at, "", 200)
	ask("GET", "/user", "", 200)
	ask("GET", at+"/git/ref/heads/sluice/promote/staging/api", "", 200)
	ask("GET", at+"/git/ref/heads/none", "", 404)
	ask("POST", at+"/pulls", `{"title":"Promote","head":"sluice/promote/staging/api","base":"main","body":"Evidence"}`, 201)
	assert.Contains(t, ask("POST", at+"/pulls", `{"title":"Promote","head":"sluice/promote/staging/api","base":"main"}`, 422), "A pull request already exists for shop:")
	assert.Contains(t, ask("POST", at+"/pulls", `{"title":"Promote","head":"main","base":"main"}`, 422), "No commits between")
	ask("GET", at+"/pulls?state=all&head=shop:sluice/promote/staging/api&base=main&per_page=1&page=1", "", 200)
	ask("GET", at+"/pulls/1", "", 200)
	ask("GET", at+"/pulls/2", "", 404)
	ask("PATCH", at+"/pulls/1", `{"title":"Other","state":"closed"}`, 200)
	ask("PATCH", at+"/pulls/1", `{"state":"open"}`, 200)
	ask("POST", at+"/issues/1/labels", `{"labels":["one"]}`, 200)
	ask("POST", at+"/issues/1/labels", `{"labels":["two"]}`, 200)
	ask("GET", at+"/issues/1/labels", "", 200)
	ask("GET", at+"/issues?labels=one,two&state=open", "", 200)
	ask("GET", at+"/issues/1", "", 200)
	ask("POST", at+"/issues/1/comments", `{"body":"Hello"}`, 201)
	comments := ask("GET", at+"/issues/1/comments", "", 200)
	var list []struct{ ID int64 }
	require.NoError(t, json.Unmarshal([]byte(comments), &list))
	comment := fmt.Sprintf("%s/issues/comments/%d", at, list[0].ID)
	ask("GET", comment, "", 200)
	ask("PATCH", comment, `{"body":"Bye"}`, 200)
	ask("DELETE", comment, "", 204)
	ask("POST", at+"/statuses/"+head, `{"state":"pending","context":"sluice/soak","description":"waits","target_url":"https://example.com"}`, 201)
	ask("GET", at+"/commits/"+head+"/status", "", 200)
	ask("GET", at+"/commits/"+head+"/statuses", "", 200)
	ask("POST", at+"/deployments", `{"ref":"`+head+`","environment":"staging/api"}`, 409)
	ask("POST", at+"/deployments", `{"ref":"`+head+`","environment":"staging/api","required_contexts":[],"auto_merge":false}`, 201)
	var deployments []struct{ ID int64 }
	require.NoError(t, json.Unmarshal([]byte(ask("GET", at+"/deployments?environment=staging/api&sha="+head, "", 200)), &deployments))
	statuses := fmt.Sprintf("%s/deployments/%d/statuses", at, deployments[0].ID)
	ask("POST", statuses, `{"state":"success","description":"live","environment_url":"https://example.com"}`, 201)
	ask("GET", statuses, "", 200)
	ask("PUT", at+"/pulls/1/merge", `{"sha":"`+start+`"}`, 409)
	repo.Protect("main", "At least 1 approving review is required by reviewers with write access.")
	ask("PUT", at+"/pulls/1/merge", `{"sha":"`+head+`"}`, 405)
	repo.Protect("main", "")
	ask("PUT", at+"/pulls/1/merge", `{"sha":"`+head+`","commit_title":"Merge it","commit_message":"For a reason","merge_method":"merge"}`, 200)
	ask("PUT", at+"/pulls/1/merge", `{}`, 405)
	assert.Equal(t, "Merge it\n\nFor a reason", git("log", "-1", "--format=%B", "main"))
	ask("DELETE", at+"/git/refs/heads/sluice/promote/staging/api", "", 204)
	ask("DELETE", at+"/git/refs/heads/sluice/promote/staging/api", "", 422)
	server.Throttle("GET", 1, 403, 1)
	ask("GET", at, "", 403)
}
