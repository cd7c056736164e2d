package gitrepo

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels for errors.Is. Each is carried by one of the error types below,
// which also name the object and have a hint.
var (
	// ErrConflict: a compare-and-swap push lost to another writer; nothing was written.
	ErrConflict = errors.New("the remote has moved")
	// ErrNotRepository: there is no Git repository at the URL or path.
	ErrNotRepository = errors.New("not a Git repository")
	// ErrUnknownRevision: no commit goes by the name.
	ErrUnknownRevision = errors.New("unknown revision")
	// ErrUnknownBranch: the remote has commits, but not this branch.
	ErrUnknownBranch = errors.New("unknown branch")
	// ErrEmpty: the repository has no commit yet.
	ErrEmpty = errors.New("the repository has no commits yet")
	// ErrTooLarge: a file or object exceeds what this package reads or writes.
	ErrTooLarge = errors.New("too large")
	// ErrUncertain: the connection broke during a push, and the remote did not
	// show the new commit afterwards. It may still arrive.
	ErrUncertain = errors.New("the outcome of the push is unknown")
	// ErrReadOnly: the repository was opened with OpenLocal.
	ErrReadOnly = errors.New("a local repository is only read")
	// ErrClosed: the Repository was closed.
	ErrClosed = errors.New("repository is closed")
)

// NotRepositoryError says that there is no Git repository at a place.
type NotRepositoryError struct {
	Repository string // URL without credentials, or path
	Reason     string // what was found instead; may be empty

	hint string
}

// Error names the place.
func (e *NotRepositoryError) Error() string {
	if e.Reason == "" {
		return e.Repository + " is not a Git repository"
	}
	return fmt.Sprintf("%s is not a Git repository: %s", e.Repository, e.Reason)
}

// Is makes errors.Is(err, ErrNotRepository) true.
func (e *NotRepositoryError) Is(target error) bool { return target == ErrNotRepository }

// Hint says what to give instead.
func (e *NotRepositoryError) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	return "give the URL or the path of a Git repository (git init --bare makes a new one)"
}

// UnknownBranchError says that the remote has no such branch.
type UnknownBranchError struct {
	Repository string
	Branch     string
	Known      []string // sorted
}

// Error names the branch, the repository and the branches there are.
func (e *UnknownBranchError) Error() string {
	return fmt.Sprintf("%s has no branch %q; it has %s", e.Repository, e.Branch, enumerate(e.Known, 10))
}

// Is makes errors.Is(err, ErrUnknownBranch) true.
func (e *UnknownBranchError) Is(target error) bool { return target == ErrUnknownBranch }

// Hint says how to go on.
func (e *UnknownBranchError) Hint() string {
	if len(e.Known) == 1 {
		return fmt.Sprintf("name the branch %q, or push a branch %q first", e.Known[0], e.Branch)
	}
	return fmt.Sprintf("name one of these branches, or push a branch %q first", e.Branch)
}

// EmptyError says that the repository exists and has no commit yet.
type EmptyError struct {
	Repository string
	Branch     string // the branch that was asked for
}

// Error names the repository.
func (e *EmptyError) Error() string { return e.Repository + " has no commits yet" }

// Is makes errors.Is(err, ErrEmpty) true.
func (e *EmptyError) Is(target error) bool { return target == ErrEmpty }

// Hint says how to make the first commit.
func (e *EmptyError) Hint() string {
	return fmt.Sprintf("push a first commit to branch %q", e.Branch)
}

// UnknownRevisionError says that no commit goes by a name.
type UnknownRevisionError struct {
	Repository string
	Revision   string
	Candidates []string // the objects that an ambiguous prefix names
	Reason     string   // why the name cannot be followed; may be empty
}

// Error names the revision.
func (e *UnknownRevisionError) Error() string {
	switch {
	case len(e.Candidates) > 0:
		return fmt.Sprintf("revision %q of %s is ambiguous: it begins %s", e.Revision, e.Repository, enumerate(e.Candidates, 5))
	case e.Reason != "":
		return fmt.Sprintf("%s has no revision %q: %s", e.Repository, e.Revision, e.Reason)
	}
	return fmt.Sprintf("%s has no revision %q", e.Repository, e.Revision)
}

// Is makes errors.Is(err, ErrUnknownRevision) true.
func (e *UnknownRevisionError) Is(target error) bool { return target == ErrUnknownRevision }

// Hint says what a revision may be.
func (e *UnknownRevisionError) Hint() string {
	if len(e.Candidates) > 0 {
		return "give more digits of the hash"
	}
	return "give a commit hash or a unique prefix of it, a branch, a tag, HEAD, or one of them with ~N"
}

// ConflictError says which ref another writer moved.
type ConflictError struct {
	Repository string
	Ref        string
	Want, Have string // hashes; "" when the ref does not exist
}

// Error names the ref and both of its values.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("pushing %s to %s: the ref is at %s, not at %s", e.Ref, e.Repository, hashOrNone(e.Have), hashOrNone(e.Want))
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// Hint says that trying again is safe.
func (e *ConflictError) Hint() string {
	return "somebody else pushed at the same time; nothing was written, run the command again"
}

// RejectedError says that the remote understood a push and refused it: a hook,
// a protected branch, a quota. Trying again would not help.
type RejectedError struct {
	Repository string
	Ref        string
	Reason     string   // the remote's status for the ref
	Messages   []string // what the remote's hooks printed, printable and bounded
}

// Error gives the remote's own words.
func (e *RejectedError) Error() string {
	text := fmt.Sprintf("pushing %s to %s: the remote refused it: %s", e.Ref, e.Repository, e.Reason)
	for _, m := range e.Messages {
		text += "\n  remote: " + m
	}
	return text
}

// Hint says where to look.
func (e *RejectedError) Hint() string {
	if strings.Contains(e.Reason, "currently checked out") {
		return "push to a bare repository: this one has the branch checked out in its work tree"
	}
	return "the remote's rules forbid this push: check branch protection, hooks and the account's permissions"
}

// AccessError says that the remote wants other credentials.
type AccessError struct {
	Repository string
	Write      bool   // it happened on the way to a push
	Denied     bool   // the credentials are known but not allowed; otherwise missing or wrong
	Message    string // the remote's words, may be empty

	hint string
}

// Error names the repository, never the credentials.
func (e *AccessError) Error() string {
	verb := "reading"
	if e.Write {
		verb = "writing to"
	}
	text := fmt.Sprintf("%s %s: ", verb, e.Repository)
	if e.Denied {
		text += "access denied"
	} else {
		text += "authentication required"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Hint says what to check.
func (e *AccessError) Hint() string {
	switch {
	case e.hint != "":
		return e.hint
	case e.Denied && e.Write:
		return "the account may not write to this repository"
	case e.Denied:
		return "the account may not read this repository"
	}
	return "give a user name and a token (or, for ssh, a key) that may use this repository"
}

// TransportError says that the remote could not be reached or broke off.
type TransportError struct {
	Repository string
	Op         string // such as "fetching" or "pushing refs/heads/main to"

	err  error // text is free of credentials
	hint string
}

// Error names the operation and the repository.
func (e *TransportError) Error() string {
	return fmt.Sprintf("%s %s: %v", e.Op, e.Repository, e.err)
}

// Unwrap gives the cause, free of credentials.
func (e *TransportError) Unwrap() error { return e.err }

// Hint says what to check.
func (e *TransportError) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	return "check the URL and the network, then try again"
}

// EditError says which path of an Edit cannot be written. Nothing was.
type EditError struct {
	Path   string
	Reason string
}

// Error names the path.
func (e *EditError) Error() string { return fmt.Sprintf("editing %q: %s", e.Path, e.Reason) }

// OptionError says that Options cannot be used as they are.
type OptionError struct {
	Repository string
	Reason     string

	hint string
}

// Error gives the reason.
func (e *OptionError) Error() string {
	return fmt.Sprintf("opening repository %s: %s", e.Repository, e.Reason)
}

// Hint says what to give instead.
func (e *OptionError) Hint() string { return e.hint }

// ShallowError says that a shallow clone has no more of the history.
type ShallowError struct {
	Repository string
	Last       string // the commit whose parents it lacks
}

// Error names the clone and the commit.
func (e *ShallowError) Error() string {
	return fmt.Sprintf("%s is a shallow clone, whose history begins at commit %s", e.Repository, short(e.Last))
}

// Hint says how to get the rest.
func (e *ShallowError) Hint() string {
	return "`git fetch --unshallow` gets the rest; in a pipeline, check out with fetch-depth: 0"
}

// CorruptError says that a stored object cannot be read. A mirror heals itself
// at the next Fetch.
type CorruptError struct {
	Object string // hash
	Reason string
}

// Error names the object.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("reading object %s: %s", e.Object, e.Reason)
}

// Hint says how it heals.
func (e *CorruptError) Hint() string {
	return "the next fetch throws the local mirror away and makes it again; if the error stays, run git fsck on the repository"
}

func hashOrNone(h string) string {
	if h == "" {
		return "nothing"
	}
	return short(h)
}

func short(h string) string { return h[:min(len(h), 12)] }

// enumerate joins names for a sentence and leaves off the tail of a long one.
func enumerate(names []string, most int) string {
	if len(names) == 0 {
		return "none"
	}
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
