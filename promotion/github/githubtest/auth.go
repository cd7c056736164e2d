package githubtest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

func etag(data []byte) string {
	sum := sha256.Sum256(data)
	return `W/"` + hex.EncodeToString(sum[:]) + `"`
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// App makes a GitHub App, installed with some access.
func (s *Server) App(slug string, access Access) *App {
	s.t.Helper()
	s.mu.Lock()
	a := &App{ID: s.id(), Installation: s.id(), Slug: slug, access: access}
	s.apps = append(s.apps, a)
	s.mu.Unlock()
	s.Rekey(a)
	return a
}

// Rekey gives an App another key. Assertions of the one before are not believed any
// more; tokens that it asked for are revoked.
func (s *Server) Rekey(a *App) {
	s.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.t.Fatalf("githubtest: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.public, a.Key = &key.PublicKey, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	maps.DeleteFunc(s.tokens, func(_ string, who identity) bool { return who.kind == "Bot" && who.id == a.ID })
}

// authenticate finds out who asks. An App's signed assertion opens only the
// routes of Apps.
func (s *Server) authenticate(r *http.Request) (identity, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" {
		return identity{}, refuse(http.StatusUnauthorized, "Requires authentication")
	}
	if who, ok := s.tokens[token]; ok {
		return who, nil
	}
	if strings.EqualFold(scheme, "Bearer") && strings.Count(token, ".") == 2 && strings.HasPrefix(r.URL.Path, "/app") {
		if a := s.asserted(token); a != nil {
			return identity{id: a.ID, login: a.Slug, kind: "App"}, nil
		}
	}
	return identity{}, refuse(http.StatusUnauthorized, "Bad credentials")
}

// asserted returns the App that signed an assertion.
func (s *Server) asserted(token string) *App {
	for _, a := range s.apps {
		claims := jwt.RegisteredClaims{}
		_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return a.public, nil }, jwt.WithValidMethods([]string{"RS256"}))
		if err == nil && claims.Issuer == strconv.FormatInt(a.ID, 10) && time.Until(claims.ExpiresAt.Time) < 11*time.Minute {
			return a
		}
	}
	return nil
}

// installationToken is POST /app/installations/{id}/access_tokens.
func installationToken(c *call) (int, any, error) {
	for _, a := range c.s.apps {
		if strconv.FormatInt(a.Installation, 10) != c.PathValue("id") || a.ID != c.who.id || c.who.kind != "App" {
			continue
		}
		token := "ghs_" + random(18)
		c.s.tokens[token] = identity{id: a.ID, login: a.Slug + "[bot]", kind: "Bot", access: a.access}
		return http.StatusCreated, doc{
			"token": token, "expires_at": now().Add(time.Hour),
			"permissions": doc{"contents": "write", "pull_requests": "write", "statuses": "write"}, "repository_selection": "selected",
		}, nil
	}
	return 0, nil, errNotFound
}

// app is GET /app.
func app(c *call) (int, any, error) {
	if c.who.kind != "App" {
		return 0, nil, refuse(http.StatusUnauthorized, "A JSON web token could not be decoded")
	}
	for _, a := range c.s.apps {
		if a.ID == c.who.id {
			return http.StatusOK, doc{
				"id": a.ID, "node_id": "A_1", "slug": a.Slug, "name": a.Slug, "description": nil, "owner": c.s.user(identity{id: 1, login: "owner", kind: "User"}),
				"external_url": c.s.URL, "html_url": c.s.URL + "/apps/" + a.Slug, "created_at": epoch, "updated_at": epoch,
				"permissions": doc{"contents": "write"}, "events": []string{"push"},
			}, nil
		}
	}
	return 0, nil, errNotFound
}

// viewer is GET /user, which is for people's tokens only.
func viewer(c *call) (int, any, error) {
	if c.who.kind != "User" {
		return 0, nil, refuse(http.StatusForbidden, "Resource not accessible by integration")
	}
	d := c.s.user(c.who)
	for _, name := range []string{"bio", "blog", "company", "email", "hireable", "location", "name"} {
		d[name] = nil
	}
	for _, name := range []string{"public_gists", "public_repos", "followers", "following"} {
		d[name] = 0
	}
	d["user_view_type"] = "public"
	d["blog"], d["created_at"], d["updated_at"] = "", epoch, epoch
	return http.StatusOK, d, nil
}

var whoami = regexp.MustCompile(`^\s*(query\s*\w*)?\s*\{\s*viewer\s*\{\s*login\s*\}\s*\}\s*$`)

// graphql answers the one question { viewer { login } }, and none else.
func graphql(c *call) (int, any, error) {
	var q struct {
		Query string `json:"query"`
	}
	if err := c.decode(&q); err != nil {
		return 0, nil, err
	}
	if !whoami.MatchString(q.Query) {
		return http.StatusOK, doc{"errors": []doc{{"message": "githubtest knows { viewer { login } } only"}}}, nil
	}
	return http.StatusOK, doc{"data": doc{"viewer": doc{"login": c.who.login}}}, nil
}
