package gitrepo

import (
	"encoding/base64"
	"errors"
	"math"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"unicode"
)

// userinfo finds scheme://user:password@ wherever a library put a URL into a
// message. The authority ends at the first slash, blank or quote.
var userinfo = regexp.MustCompile(`(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s"'<>]*@`)

// redactor removes what it was told is secret, and userinfo of every URL. It is safe
// for concurrent use.
type redactor struct {
	secrets []string

	mu     sync.Mutex
	recent []*redactor // of short-lived secrets, the newest last
}

// maxRecent is how many short-lived secrets are remembered: an answer may come after
// the next one was asked for.
const maxRecent = 4

// login adds a password that may be replaced by others, as it is and as it is sent.
func (r *redactor) login(user, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	if user+password == "" || slices.ContainsFunc(r.recent, func(one *redactor) bool { return slices.Contains(one.secrets, basic) }) {
		return
	}
	if r.recent = append(r.recent, newRedactor(password, basic)); len(r.recent) > maxRecent {
		r.recent = slices.Delete(r.recent, 0, 1)
	}
}

// newRedactor takes the secrets as they are; their URL-escaped forms count as well,
// since that is how libraries print them.
func newRedactor(secrets ...string) *redactor {
	r := &redactor{}
	seen := map[string]bool{}
	for _, s := range secrets {
		// Shorter ones would blank out ordinary text and cannot be kept secret anyway.
		if len(s) < 3 {
			continue
		}
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), url.UserPassword("", s).String()[1:]} {
			if !seen[form] {
				seen[form] = true
				r.secrets = append(r.secrets, form)
			}
		}
	}
	// Longest first: a secret that contains another must not leave its rest behind.
	sort.Slice(r.secrets, func(i, j int) bool { return len(r.secrets[i]) > len(r.secrets[j]) })
	return r
}

func (r *redactor) text(s string) string {
	s = userinfo.ReplaceAllString(s, "$1")
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, "***")
	}
	r.mu.Lock()
	recent := slices.Clone(r.recent)
	r.mu.Unlock()
	for _, one := range recent {
		s = one.text(s)
	}
	return s
}

// line is text that came from elsewhere as one line of at most n bytes. What nobody
// sees is taken out between two looks for secrets: it could stand within one.
func (r *redactor) line(s string, n int) string {
	return printable(r.text(printable(r.text(s), math.MaxInt)), n)
}

// err returns err with its text redacted. errors.Is still sees the causes, but
// nobody can reach, and print, the original.
func (r *redactor) err(err error) error {
	if err == nil {
		return nil
	}
	return &redactedError{text: r.line(err.Error(), 1000), cause: err}
}

type redactedError struct {
	text  string
	cause error
}

func (e *redactedError) Error() string        { return e.text }
func (e *redactedError) GoString() string     { return e.text }
func (e *redactedError) Is(target error) bool { return errors.Is(e.cause, target) }

// displayURL is how errors name a repository: no userinfo, no query. Whatever
// stands before the last @ is taken for userinfo, since a password that should
// have been escaped may hold any character.
func displayURL(raw string) string {
	scheme, rest, isURL := cutScheme(raw)
	if !isURL {
		if isSCP(raw) || strings.Contains(raw, "://") {
			raw = raw[strings.LastIndex(raw, "@")+1:]
		}
		return printable(raw, 300)
	}
	rest = rest[strings.LastIndex(rest, "@")+1:]
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "#")
	return printable(scheme+"://"+rest, 300)
}

var schemeFormat = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*$`)

// cutScheme splits a URL behind its scheme. What stands before :// may be anything
// else, too: half of a password.
func cutScheme(raw string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(raw, "://")
	if !ok || !schemeFormat.MatchString(scheme) {
		return "", raw, false
	}
	return scheme, rest, true
}

// printable makes one line of text that came from elsewhere fit for a
// terminal: no control or invisible characters, at most n bytes.
func printable(s string, n int) string {
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// messageLines splits what a remote printed into at most 20 printable lines.
func (r *redactor) messageLines(s string) []string {
	var lines []string
	for _, line := range strings.FieldsFunc(s, func(c rune) bool { return c == '\n' || c == '\r' }) {
		if line = r.line(line, 300); line != "" {
			lines = append(lines, line)
		}
		if len(lines) == 20 {
			break
		}
	}
	return lines
}
