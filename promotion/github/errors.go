package github

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/gofri/go-github-ratelimit/v2/github_ratelimit/github_primary_ratelimit"
	"github.com/google/go-github/v60/github"
)

// Error is a refusal or a failure of GitHub.
type Error struct {
	Site       string // HOST/OWNER/NAME
	Doing      string // what was tried
	Status     int    // of the answer; 0: there was none, or it made no sense
	Message    string // GitHub's words, or the network's
	Remedy     string
	Unanswered bool // what became of the request is not known
}

func (e *Error) Error() string {
	text := e.Doing + " on " + e.Site + ": "
	switch {
	case e.Status == http.StatusUnauthorized:
		return text + "GitHub does not accept the token: " + e.Message
	case e.Status == http.StatusForbidden:
		return text + "the token may not do this: " + e.Message
	case e.Status >= 500:
		return text + fmt.Sprintf("GitHub failed (%d): ", e.Status) + e.Message
	case e.Status != 0:
		return text + fmt.Sprintf("GitHub refused (%d): ", e.Status) + e.Message
	}
	return text + e.Message
}

// Hint says what to do.
func (e *Error) Hint() string { return e.Remedy }

// LimitError says that the rate limit is used up, and until when.
type LimitError struct {
	Site, Doing string
	Until       time.Time // zero: GitHub does not say
	Secondary   bool      // too much in a short time, not too much in the hour
}

func (e *LimitError) what() string {
	if e.Secondary {
		return "GitHub asks to slow down"
	}
	return "GitHub's rate limit is used up"
}

func (e *LimitError) Error() string {
	text := e.Doing + " on " + e.Site + ": " + e.what()
	if !e.Until.IsZero() {
		text += " until " + e.Until.UTC().Format(time.RFC3339)
	}
	return text
}

// Hint says what to do.
func (e *LimitError) Hint() string {
	return "try again then; a token of its own, or a GitHub App, does not share its limit with others"
}

// status is the HTTP status of an error, 0 when it has none.
func status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// failure makes an error of this package of what the client reports.
func (s *Site) failure(doing string, res *github.Response, err error) error {
	if until, secondary, limited := s.limited(err); limited {
		return &LimitError{Site: s.String(), Doing: doing, Until: until, Secondary: secondary}
	}
	e := &Error{Site: s.String(), Doing: doing, Message: s.clean(cause(err).Error())}
	var answer *github.ErrorResponse
	var app *ghinstallation.HTTPError
	var elsewhere *elsewhereError
	var token *tokenError
	var option *OptionError
	switch {
	case errors.As(err, &answer) && answer.Response != nil:
		e.Status = answer.Response.StatusCode
		e.Message = s.clean(describe(answer))
		e.Remedy = s.remedy(e.Status, answer.Response.Header)
	case errors.As(err, &app) && app.Response != nil:
		_ = app.Response.Body.Close()
		e.Status, e.Message = app.Response.StatusCode, "no token for the App's installation: "+s.clean(app.Response.Status)
		e.Remedy = "check the App's id, its installation id, its key and this machine's clock"
	case errors.As(err, &token):
		e.Remedy = "check the file that SLUICE_GITHUB_TOKEN_FILE names"
	case errors.As(err, &option):
		e.Message, e.Remedy = option.Problem, option.Remedy
	case errors.As(err, &elsewhere):
		e.Remedy = "give --repo and --github-url as the server itself spells them"
	case res != nil && res.Response != nil && res.StatusCode >= 200 && res.StatusCode < 300:
		e.Message = "the answer cannot be read: " + e.Message // and so it was carried out
		e.Remedy = "check that --github-url is the address of a GitHub server"
	default:
		e.Unanswered = true
		e.Remedy = "check the network and --github-url, and try again"
	}
	return e
}

// cause leaves the URL out that net/http puts before an error.
func cause(err error) error {
	var inner interface {
		error
		Unwrap() error
		Timeout() bool
		Temporary() bool
	}
	if errors.As(err, &inner) && inner.Unwrap() != nil {
		return inner.Unwrap()
	}
	return err
}

// limited finds a rate limit in an error.
func (s *Site) limited(err error) (until time.Time, secondary, ok bool) {
	var reached *github_primary_ratelimit.RateLimitReachedError
	var primary *github.RateLimitError
	var slow *slowError
	switch {
	case errors.As(err, &slow):
		return s.now().Add(slow.wait), true, true
	case errors.As(err, &reached):
		if reached.ResetTime != nil {
			until = *reached.ResetTime
		}
		return until, false, true
	case errors.As(err, &primary): // the client knows from an earlier answer
		return primary.Rate.Reset.Time, false, true
	}
	return until, false, false
}

// describe joins what GitHub says is wrong.
func describe(answer *github.ErrorResponse) string {
	text := answer.Message
	for i, e := range answer.Errors {
		if i == 5 {
			break
		}
		switch {
		case e.Message != "":
			text += "; " + e.Message
		case e.Field != "":
			text += "; " + e.Field + " is " + strings.ReplaceAll(e.Code, "_", " ")
		}
	}
	if text == "" {
		text = http.StatusText(answer.Response.StatusCode)
	}
	return text
}

// remedy says what helps against a refusal.
func (s *Site) remedy(status int, h http.Header) string {
	switch status {
	case http.StatusUnauthorized:
		return "the token has expired, was revoked or is another server's: set SLUICE_GITHUB_TOKEN anew"
	case http.StatusForbidden:
		if h.Get("X-GitHub-SSO") != "" {
			return "authorize the token for single sign-on of the organization"
		}
		if wanted := h.Get("X-Accepted-GitHub-Permissions"); wanted != "" {
			return "give the token these permissions: " + printable(wanted)
		}
		return "give the token write access to contents, pull requests, commit statuses and deployments of " + s.owner + "/" + s.name
	case http.StatusNotFound, http.StatusGone:
		return "check the name of the repository, and that the token may see it: GitHub hides what it may not"
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return "give --repo with the repository's new name"
	}
	return ""
}

// tokens finds what looks like a token of GitHub's.
var tokens = regexp.MustCompile(`\b(gh[a-z]_|github_pat_)[A-Za-z0-9_]+|\beyJ[\w-]+\.[\w-]+\.[\w-]+`)

// clean makes foreign words fit for an error: one bounded, printable line without
// a token, which no answer should have in it, but might.
func (s *Site) clean(text string) string {
	if s.token != nil {
		text = s.token.Clean(text)
	}
	return printable(tokens.ReplaceAllString(text, "***"))
}

// printable makes one line of at most 500 characters.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	return cut(strings.Join(strings.Fields(text), " "), 500)
}

// cut shortens text to at most n characters.
func cut(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
