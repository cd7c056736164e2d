package gitea

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"code.gitea.io/sdk/gitea"

	"github.com/sluice-dev/sluice/promotion"
)

// maxMessage is the longest text of the server's that is repeated, in
// characters.
const maxMessage = 300

// OptionError says that Options cannot be used as they are.
type OptionError struct{ reason, hint string }

func (e *OptionError) Error() string { return "opening the forge: " + e.reason }

// Hint says what to give instead.
func (e *OptionError) Hint() string { return e.hint }

var (
	errNoPulls = errors.New("it takes none")
	errStrayed = errors.New("somebody sent it into another branch at that moment, and there it was merged")
)

// Error is a request that the server did not carry out.
type Error struct {
	Repository string
	Op         string // such as "listing pull requests"
	Status     int    // of HTTP; 0: there was no answer
	Message    string // the server's words, bounded and of one line, without the token

	err error // free of the token; nil when there was an answer
}

func (e *Error) Error() string {
	text := e.Op + " of " + e.Repository
	switch {
	case e.err != nil:
		return text + ": " + e.err.Error()
	case e.Message == "":
		return fmt.Sprintf("%s: status %d", text, e.Status)
	}
	return fmt.Sprintf("%s: status %d: %s", text, e.Status, e.Message)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// Hint says what to do.
func (e *Error) Hint() string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "the token is unknown or has expired: make another one and give it in SLUICE_GITEA_TOKEN"
	case e.Status == http.StatusForbidden:
		return "the token's user may not do this: they need write access to the repository, and the token the scopes write:repository, write:issue and read:user"
	case e.Status == http.StatusNotFound:
		return "the repository was renamed or deleted, or the token's user may not see it: check its address and the user's access"
	case e.Status == http.StatusLocked:
		return "the repository is archived: make it writable again in its settings"
	case errors.Is(e.err, errNoPulls):
		return "switch pull requests on in " + e.Repository + "/settings; a mirror, and a repository without a commit, cannot have any"
	case errors.Is(e.err, errStrayed):
		return "revert it there, and propose it again"
	case errors.Is(e.err, errRedirect):
		return "the repository was renamed, or the server moved: give the new address"
	case errors.Is(e.err, context.Canceled), errors.Is(e.err, context.DeadlineExceeded):
		return ""
	case e.Status >= http.StatusInternalServerError, e.Status == http.StatusTooManyRequests:
		return "the server is in trouble: try again later, or look into its log"
	case e.Status == 0:
		return "check the server's address and the network, then try again"
	}
	return "look at the repository's settings: " + e.Repository + "/settings"
}

// failed makes an Error of what the SDK returned. Its errors repeat whatever the
// server sends, so they are not used when there was an answer.
func (s *Site) failed(op string, response *gitea.Response, err error) error {
	e := &Error{Repository: s.repository(), Op: op}
	switch {
	case response == nil || response.Response == nil:
		e.err = s.redact(err)
	case response.StatusCode/100 == 2:
		e.err = fmt.Errorf("the answer is not what Gitea's API answers: %w", s.redact(err))
	default:
		e.Status, e.Message = response.StatusCode, s.message(response)
	}
	return e
}

// message is what the server says about a refusal.
func (s *Site) message(response *gitea.Response) string {
	body, ok := response.Body.(*answer)
	if !ok {
		return ""
	}
	var said struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body.data, &said) != nil {
		return "" // a page of a proxy
	}
	return promotion.OneLine(s.clean(said.Message), maxMessage)
}

// clean takes the token out of a text.
func (s *Site) clean(text string) string { return s.token.Clean(text) }

// redact takes the token out of an error.
func (s *Site) redact(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := s.clean(text); clean != text {
		return errors.New(clean)
	}
	return err
}

func refused(number int, reason error, detail string) error {
	return &promotion.RequestError{Number: number, Reason: reason, Detail: detail}
}
