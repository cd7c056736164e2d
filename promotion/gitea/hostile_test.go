package gitea

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"code.gitea.io/sdk/gitea"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/promotion"
)

func itoa(n int) string { return strconv.Itoa(n) }

const secret = "0123456789abcdef0123456789abcdef01234567"

// against is a forge whose server is a function.
func against(t *testing.T, handle http.HandlerFunc) *Forge {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	site, err := Connect(Options{URL: server.URL + "/", Owner: "shop", Name: "environments", Token: secret})
	require.NoError(t, err)
	return site.Forge(nil, "main")
}

func TestHostileAnswers(t *testing.T) {
	answers := map[string]struct {
		handle http.HandlerFunc
		want   string
	}{
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example.com/", http.StatusTemporaryRedirect)
		}, "another address"},
		"no end": {func(w http.ResponseWriter, _ *http.Request) {
			block := []byte(strings.Repeat(" ", 1<<20))
			for range maxAnswer>>20 + 2 {
				_, _ = w.Write(block)
			}
		}, "longer than"},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "not what Gitea's API answers"},
		"the token in its words": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "you sent " + r.Header.Get("Authorization") + "\x1b[31m\n" + strings.Repeat("x", 1000)})
		}, `you sent token ***\u001B[31m x`},
		"a page of a proxy": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<html>nginx</html>"))
		}, "status 502"},
		"nothing": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	}
	for name, tt := range answers {
		t.Run(name, func(t *testing.T) {
			forge := against(t, tt.handle)
			_, err := forge.pulls(t.Context(), view{forge: forge}, gitea.StateOpen)
			require.ErrorContains(t, err, tt.want)
			assert.ErrorContains(t, err, "listing pull requests of http")
			assert.NotContains(t, err.Error(), secret)
			assert.Less(t, len(err.Error()), 600)
			hint(t, err)
		})
	}
}

// Fields that are missing, or of another repository, make no pull request.
func TestHostilePullRequests(t *testing.T) {
	const head = `"head":{"label":"sluice/promote/staging/api","repo_id":1,"sha":"x"},"base":{"ref":"main","repo_id":1}`
	list := []string{
		`null`, `{}`, `{"number":1}`,
		`{"number":1,"head":{"label":"sluice/promote/staging/api","repo_id":2},"base":{"repo_id":1}}`,
		`{"number":2,"head":{"label":"sluice/promote/staging/../x","repo_id":1},"base":{"repo_id":1}}`,
		`{"number":-3,` + head + `}`,
		`{"number":4,"state":"closed","merged":true,"merge_commit_sha":"--upload-pack=x",` + head + `}`,
	}
	forge := against(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "[%s]", strings.Join(list, ","))
	})
	forge.repo = bareRepository(t)
	pulls, err := forge.pulls(t.Context(), view{forge: forge}, gitea.StateAll)
	require.NoError(t, err)
	require.Len(t, pulls, 1)
	assert.Equal(t, 4, pulls[0].Number)
	assert.Empty(t, pulls[0].MergedRevision)
	assert.Empty(t, pulls[0].Head)
}

// A merge into another branch than the one that was judged is no success.
func TestMergedElsewhere(t *testing.T) {
	base := "main"
	forge := against(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"number":1,"merged":true,"merge_commit_sha":%q,"base":{"label":%q,"repo_id":1}}`, secret, base)
	})
	forge.repo = bareRepository(t)
	revision, err := forge.afterMerge(t.Context(), pull{number: 1})
	require.NoError(t, err)
	assert.Equal(t, secret, revision)
	base = "other"
	_, err = forge.afterMerge(t.Context(), pull{number: 1})
	require.ErrorContains(t, err, "there it was merged: into other, not into main")
	assert.Contains(t, hint(t, err), "revert it there")
}

func TestPagination(t *testing.T) {
	forge := against(t, func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		if page < 3 {
			w.Header().Set("Link", fmt.Sprintf(`<http://elsewhere/?page=%d>; rel="next"`, page+1))
		}
		_, _ = fmt.Fprintf(w, `[{"id":%d,"name":"label-%d"},{"id":9,"name":"all"}]`, page, page)
	})
	ids, err := forge.labelIDs(t.Context(), []string{"label-3", "all"})
	require.NoError(t, err)
	assert.Equal(t, []int64{9, 3}, ids)
}

func TestEndlessPages(t *testing.T) {
	forge := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `<http://elsewhere/?page=2>; rel="next"`)
		_, _ = w.Write([]byte("[]"))
	})
	_, err := forge.labelIDs(t.Context(), []string{"x"})
	require.ErrorContains(t, err, "more than")
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	forge := against(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := forge.me(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestConnectRefuses(t *testing.T) {
	good := Options{URL: "https://git.example.com", Owner: "shop", Name: "environments", Token: secret}
	for name, change := range map[string]func(*Options){
		"no server":             func(o *Options) { o.URL = "git.example.com" },
		"another protocol":      func(o *Options) { o.URL = "ssh://git.example.com" },
		"a password in the URL": func(o *Options) { o.URL = "https://ada:" + secret + "@git.example.com" },
		"no owner":              func(o *Options) { o.Owner = "" },
		"a path":                func(o *Options) { o.Name = "a/b" },
		"no token":              func(o *Options) { o.Token = "" },
		"a token with an end":   func(o *Options) { o.Token = secret + "\n" },
	} {
		o := good
		change(&o)
		_, err := Connect(o)
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), secret, name)
		assert.NotEmpty(t, hint(t, err), name)
	}
}

func TestLocate(t *testing.T) {
	tests := []struct{ remote, server, owner, name string }{
		{"https://git.example.com/shop/environments.git", "https://git.example.com", "shop", "environments"},
		{"https://git.example.com/shop/environments/", "https://git.example.com", "shop", "environments"},
		{"http://localhost:3000/gitea/shop/environments", "http://localhost:3000/gitea", "shop", "environments"},
		{"https://ada:secret@git.example.com/shop/environments", "https://git.example.com", "shop", "environments"},
		{"git@git.example.com:shop/environments.git", "https://git.example.com", "shop", "environments"},
		{"git.example.com:shop/environments.git", "https://git.example.com", "shop", "environments"},
		{"ssh://git@git.example.com:2222/shop/environments.git", "https://git.example.com", "shop", "environments"},
	}
	for _, tt := range tests {
		server, owner, name, ok := Locate(tt.remote)
		assert.True(t, ok, tt.remote)
		assert.Equal(t, []string{tt.server, tt.owner, tt.name}, []string{server, owner, name}, tt.remote)
	}
	for _, remote := range []string{"", "/srv/git/environments.git", "https://git.example.com/environments", "file:///srv/shop/environments", "https://", "a:b", "git@host:../.."} {
		_, _, _, ok := Locate(remote)
		assert.False(t, ok, remote)
	}
}

// Whatever the server answers, a pull request is of this repository's promotion
// branches or it is none, and what it says of commits are hashes.
func FuzzPullRequest(ff *testing.F) {
	f := mutants.New(ff)
	const branch = "sluice/promote/staging/api"
	const sides = `"head":{"label":"` + branch + `","ref":"` + branch + `","repo_id":1,"sha":"` + secret + `"},"base":{"label":"main","ref":"main","repo_id":1}`
	f.Add([]byte(`{"number":1,"state":"open","mergeable":true,"title":"Promote api","user":{"login":"ann"},"labels":[{"name":"x"},null],"created_at":"2026-11-21T10:00:00Z",` + sides + `}`))
	f.Add([]byte(`{"number":2,"state":"closed","merged":true,"merge_commit_sha":"` + secret + `",` + sides + `}`))
	f.Add([]byte(`{"number":2,"state":"closed","merged":true,"merge_commit_sha":"` + strings.Repeat("0a", 32) + `",` + sides + `}`))
	f.Add([]byte(`{"number":3,"state":"closed","body":"Evidence.\n\n<!-- sluice:pull {\"landed\":\"` + secret + `\",\"reason\":\"x\"} -->",` + sides + `}`))
	f.Add([]byte(`{"number":4,"head":{"label":"sluice/promote/staging/all","repo_id":2},"base":{"repo_id":1},"user":null}`))
	site, err := Connect(Options{URL: "https://git.example.com/", Owner: "shop", Name: "environments", Token: "x"})
	require.NoError(f, err)
	forge := site.Forge(bareRepository(f), "main")
	f.Fuzz(func(t *testing.T, data []byte) {
		var raw *gitea.PullRequest
		if json.Unmarshal(data, &raw) != nil {
			return
		}
		v := view{forge: forge, target: secret, heads: map[string]string{branch: strings.Repeat("5", 40)}}
		got, ok, err := v.read(raw)
		if err != nil || !ok {
			return
		}
		environment, _, promotes := promotion.ParseBranch(got.Branch)
		assert.True(t, promotes && environment == got.Environment, "%+v is taken for a promotion", got)
		assert.Equal(t, raw.Base.RepoID, raw.Head.RepoID, "a fork's")
		assert.Positive(t, got.Number)
		for _, hash := range []string{got.Head, got.MergedRevision} {
			assert.True(t, hash == "" || promotion.IsCommit(hash), hash)
		}
		assert.True(t, got.State == promotion.Merged || got.MergedRevision == "", "%+v", got)
	})
}
