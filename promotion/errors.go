package promotion

import (
	"fmt"
	"strings"
)

// RequestError is a forge's refusal that concerns one pull request. Reason is
// one of the Err values of this package.
type RequestError struct {
	Number int
	Reason error
	Detail string // optional: what exactly
	Remedy string // optional: what to do
}

func (e *RequestError) Error() string {
	text := fmt.Sprintf("pull request #%d: %v", e.Number, e.Reason)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap gives the reason.
func (e *RequestError) Unwrap() error { return e.Reason }

// Hint says what to do.
func (e *RequestError) Hint() string {
	if e.Remedy != "" {
		return e.Remedy
	}
	switch e.Reason {
	case ErrNotFound:
		return "`sluice pr list --all` shows the pull requests"
	case ErrHeadMoved:
		return "look at it again: `sluice pr show " + fmt.Sprint(e.Number) + "`"
	case ErrClosed:
		return "propose it again (`sluice promote`, `sluice traffic set --pr`): that makes a new pull request"
	}
	return ""
}

// OlderError refuses to replace the proposal of a build by that of an older one.
type OlderError struct {
	Number                 int
	Component, Environment string
	Digest                 string // asked for
	Open                   string // what the pull request proposes
}

func (e *OlderError) Error() string {
	return fmt.Sprintf("promoting %s of %s to %s: pull request #%d proposes %s, a newer build",
		short(e.Digest), e.Component, e.Environment, e.Number, short(e.Open))
}

// Unwrap says that it is a refusal.
func (e *OlderError) Unwrap() error { return ErrRefused }

// Hint says what to do.
func (e *OlderError) Hint() string {
	return fmt.Sprintf("--force proposes the older one in its place; `sluice pr show %d` shows the newer one", e.Number)
}

// ConflictError names the files that both sides of a pull request changed to
// different content.
type ConflictError struct {
	Number int
	Files  []string // repository paths, sorted
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("pull request #%d: %v: both changed %s", e.Number, ErrMergeConflict, strings.Join(e.Files, ", "))
}

// Unwrap makes it an ErrMergeConflict.
func (e *ConflictError) Unwrap() error { return ErrMergeConflict }

// Hint says what to do.
func (e *ConflictError) Hint() string {
	return "propose it again (`sluice promote`, `sluice traffic set --pr`): that renews the pull request from what is live now"
}

// GatesError says which gates keep a pull request from being merged.
type GatesError struct {
	Number int
	Gates  []Gate // those that have not passed
}

func (e *GatesError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pull request #%d may not be merged:", e.Number)
	for _, g := range e.Gates {
		fmt.Fprintf(&b, "\n  %s", g)
	}
	return b.String()
}

// Hint says what to do.
func (e *GatesError) Hint() string {
	for _, g := range e.Gates {
		if g.Hint != "" {
			return g.Hint
		}
	}
	return "wait until they pass, or merge with --override REASON, which the merge commit records"
}
