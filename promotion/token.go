package promotion

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
)

// maxGiven is how many tokens are remembered: an answer may come after the next one
// was asked for.
const maxGiven = 4

// ErrNoToken says that a token is empty, or has characters that no token has.
var ErrNoToken = errors.New("it is empty, or has characters that no token has")

// Token is what an adapter signs in to its forge with. It may be replaced while the
// program runs. It is safe for concurrent use.
type Token struct {
	source func(context.Context) (string, error)

	mu    sync.Mutex
	given []string // the newest last
}

// NewToken takes what gives the token that is good now. Its errors must not hold what
// is secret.
func NewToken(source func(context.Context) (string, error)) *Token { return &Token{source: source} }

// FixedToken is one that is never replaced.
func FixedToken(token string) *Token {
	return NewToken(func(context.Context) (string, error) { return token, nil })
}

// Now is the token that is good now, or ErrNoToken.
func (t *Token) Now(ctx context.Context) (string, error) {
	token, err := t.source(ctx)
	if err != nil {
		return "", err
	}
	if token = strings.TrimSpace(token); token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", ErrNoToken
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.given, token) {
		if t.given = append(t.given, token); len(t.given) > maxGiven {
			t.given = slices.Delete(t.given, 0, 1)
		}
	}
	return token, nil
}

// Clean takes the tokens that were given out of a text: a server, or a proxy before
// it, may repeat what it was sent.
func (t *Token) Clean(text string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, token := range t.given {
		text = strings.ReplaceAll(text, token, "***")
	}
	return text
}
