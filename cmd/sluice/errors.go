package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
)

// The exit codes, as `sluice help exit-codes` documents them.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitFindings    = 3
	exitNotReady    = 4
	exitPartial     = 5
	exitNotDeployed = 6
	exitChanged     = 7
	exitInterrupted = 130
)

const exitCodesHelp = `Every command ends with one of these codes:

  0  done, or there was nothing to do (a promotion of what is already there)
  1  an error: the input is wrong, the repository or the cluster refused
  2  wrong usage: an unknown command or flag, a missing argument
  3  the answer is no: check or doctor found errors, diff --exit-code found
     differences, a pull request's gates have not passed
  4  applied, but not ready: a release failed, is held, or the time ran out
  5  only in part: status could not read the repository, or not ask the cluster,
     and shows the other side
  6  a build is recorded and not deployed: a configuration key that it requires
     is missing, or the overlay cannot be edited
  7  traffic was not as --if-current demands, and nothing was changed
130  interrupted
`

// usageError is an error in how a command was called.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usagef makes an error that ends with exit code 2.
func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// codedError gives an error another exit code than 1.
type codedError struct {
	err  error
	code int
}

func (e codedError) Error() string { return e.err.Error() }
func (e codedError) Unwrap() error { return e.err }

// hintedError adds to an error what to do about it.
type hintedError struct {
	err  error
	hint string
}

func (e hintedError) Error() string { return e.err.Error() }
func (e hintedError) Unwrap() error { return e.err }
func (e hintedError) Hint() string  { return e.hint }

func withHint(err error, format string, args ...any) error {
	return hintedError{err, fmt.Sprintf(format, args...)}
}

// unpanicked runs a command. Where that panics, the error has the stack and not what
// the panic said: that may be, or hold, a decrypted value.
func unpanicked(command func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = withHint(fmt.Errorf("a panic; what it said is withheld, as it may hold decrypted values:\n%s", debug.Stack()),
				"this is an error in sluice: report it with the lines above")
		}
	}()
	return command()
}

// exitCode is the one table from errors to exit codes.
func exitCode(err error) int {
	var coded codedError
	var usage usageError
	var changed *envrepo.TrafficChangedError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &changed):
		return exitChanged
	default:
		return exitError
	}
}

// printError writes err and its hints, one line each.
func printError(w io.Writer, colour bool, err error) {
	red, dim, reset := "", "", ""
	if colour {
		red, dim, reset = "\x1b[31m", "\x1b[2m", "\x1b[0m"
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintf(w, "%serror:%s interrupted\n", red, reset)
		return
	}
	fmt.Fprintf(w, "%serror:%s %s\n", red, reset, printable(err.Error()))
	for _, hint := range hints(err) {
		fmt.Fprintf(w, "%shint:%s %s\n", dim, reset, printable(hint))
	}
}

// hints collects the hints of every error in the tree of err, outermost first,
// each once.
func hints(err error) []string {
	var found []string
	seen := map[string]bool{}
	var walk func(error)
	walk = func(err error) {
		if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" && !seen[h.Hint()] {
			seen[h.Hint()] = true
			found = append(found, h.Hint())
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			if inner := e.Unwrap(); inner != nil {
				walk(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return found
}

// printable removes control characters: texts of errors come from repositories,
// forges and clusters, which must not be able to drive a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r < 0x20 || (r >= 0x7f && r < 0xa0) {
			return '�'
		}
		return r
	}, s)
}
