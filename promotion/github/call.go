package github

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/go-github/v60/github"
)

const (
	maxAttempts = 4                      // of one request that meets server errors
	firstPause  = 500 * time.Millisecond // doubled with each attempt
)

// manner says whether a request may be sent again when it is not known what
// became of it.
type manner bool

const (
	repeatable manner = true  // it says how things shall be: twice is as good as once
	once       manner = false // twice would make two of it, or is judged by its outcome
)

// call sends a request until it is answered: server errors and silence are tried
// again where that does no harm, and rate limits are waited for within bounds.
// doing is what an error says was tried.
func (s *Site) call(ctx context.Context, doing string, m manner, send func(context.Context) (*github.Response, error)) error {
	waited := time.Duration(0)
	for attempt := 1; ; attempt++ {
		err := s.attempt(ctx, doing, send)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s on %s: %w", doing, s, ctx.Err())
		}
		pause, again := s.again(err, m, attempt, waited)
		if !again {
			return err
		}
		if err := s.pause(ctx, pause); err != nil {
			return fmt.Errorf("%s on %s: %w", doing, s, err)
		}
		var limit *LimitError
		if errors.As(err, &limit) {
			attempt--
			waited += pause
		}
	}
}

// attempt sends a request once, unless GitHub has asked to be left alone: whoever
// goes on asking then is shut out for longer.
func (s *Site) attempt(ctx context.Context, doing string, send func(context.Context) (*github.Response, error)) error {
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	if s.now().Before(slow) {
		return &LimitError{Site: s.String(), Doing: doing, Until: slow, Secondary: true}
	}
	res, err := send(ctx)
	if err == nil {
		return nil
	}
	err = s.failure(doing, res, err)
	var limit *LimitError
	if errors.As(err, &limit) && limit.Secondary {
		s.mu.Lock()
		s.slow = limit.Until
		s.mu.Unlock()
	}
	return err
}

// again decides whether a request that failed is sent again, and after what pause.
// A request that met a rate limit was not carried out, so every one may.
func (s *Site) again(err error, m manner, attempt int, waited time.Duration) (time.Duration, bool) {
	var limit *LimitError
	if errors.As(err, &limit) {
		// A second is added since GitHub tells seconds, and clocks differ.
		pause := max(0, limit.Until.Sub(s.now())) + time.Second
		if limit.Until.IsZero() || waited+pause > s.maxWait {
			return 0, false
		}
		s.tellWait(limit.what(), limit.Until)
		return pause, true
	}
	if m == once || attempt >= maxAttempts || !transient(err) {
		return 0, false
	}
	full := firstPause << (attempt - 1)
	return full/2 + rand.N(full/2), true
}

func (s *Site) tellWait(why string, until time.Time) {
	s.progress(fmt.Sprintf("%s; waiting until %s", why, until.UTC().Format("15:04:05 MST")))
}

// transient reports whether the same request may succeed a little later.
func transient(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case 0:
		return e.Unanswered
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// unknown reports whether a request may have been carried out although it failed.
func unknown(err error) bool { return transient(err) }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
