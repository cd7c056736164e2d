package envrepo

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode"
)

// Causes that a FileError of an overlay may carry, for errors.Is.
var (
	// ErrTagPin: the overlay pins an image tag where a digest is due.
	ErrTagPin = errors.New("image is pinned by tag")
	// ErrPinsNothing: the overlay's images list has no entry of the component's image.
	ErrPinsNothing = errors.New("images entry pins nothing")
)

// FileError is one problem of one file of the environments repository.
type FileError struct {
	File    string // slash-separated, relative to the project folder
	Line    int    // 1-based; 0 when the problem is not at a line
	Field   string // path of the field, such as environments[1].promotion.from; "" for the whole file
	Message string
	Err     error // the cause, when callers may ask for it with errors.Is or errors.As

	hint string
}

// Error returns file:line: message, on one line.
func (e *FileError) Error() string {
	if e.Line > 0 {
		return printable(fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message))
	}
	return printable(e.File + ": " + e.Message)
}

// printable escapes what a hostile file name or value could do to a terminal.
func printable(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		if unprintable(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			out.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// Hint says what to do about it, "" when the message says all there is.
func (e *FileError) Hint() string { return e.hint }

func (e *FileError) Unwrap() error { return e.Err }

// FileErrors are all the problems of one file, in the order of their lines.
type FileErrors struct {
	Problems []*FileError
}

// Error returns one problem a line.
func (e *FileErrors) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}

// Hint is the hint of the first problem that has one.
func (e *FileErrors) Hint() string {
	for _, p := range e.Problems {
		if p.hint != "" {
			return p.hint
		}
	}
	return ""
}

func (e *FileErrors) Unwrap() []error {
	errs := make([]error, 0, len(e.Problems))
	for _, p := range e.Problems {
		errs = append(errs, p)
	}
	return errs
}

// joinProblems makes one error of the problems of a file: nil for none, the
// problem itself for one, *FileErrors for several.
func joinProblems(problems []*FileError) error {
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	sort.SliceStable(problems, func(i, j int) bool { return problems[i].Line < problems[j].Line })
	return &FileErrors{Problems: problems}
}

// NotProjectError says that a folder holds no project.
type NotProjectError struct{}

func (e *NotProjectError) Error() string {
	return "reading sluice.yaml: no such file: this is not the folder of a project"
}

// Hint says what to do about it.
func (e *NotProjectError) Hint() string {
	return "name the project's folder with --project, or start a project with `sluice init`"
}

// UnknownEnvironmentError says that sluice.yaml lists no such environment.
type UnknownEnvironmentError struct {
	Name  string
	Known []string // in the project's order
}

func (e *UnknownEnvironmentError) Error() string {
	return fmt.Sprintf("unknown environment %q%s", e.Name, didYouMean(e.Name, e.Known))
}

// Hint names the known environments.
func (e *UnknownEnvironmentError) Hint() string { return knownHint("environments", e.Known) }

// UnknownComponentError says that components/<name>/component.yaml does not exist.
type UnknownComponentError struct {
	Name  string
	Known []string
}

func (e *UnknownComponentError) Error() string {
	return fmt.Sprintf("unknown component %q%s", e.Name, didYouMean(e.Name, e.Known))
}

// Hint names the known components.
func (e *UnknownComponentError) Hint() string {
	if len(e.Known) == 0 {
		return "the project has no component yet: add one with `sluice component add`"
	}
	return knownHint("components", e.Known)
}

// UnknownReleaseError says that a component has no overlay in an environment.
type UnknownReleaseError struct {
	Environment string
	Name        string
}

func (e *UnknownReleaseError) Error() string {
	if e.Name == EnvironmentRelease {
		return fmt.Sprintf("environment %s has no objects of its own: environments/%s/kustomization.yaml does not exist", e.Environment, e.Environment)
	}
	return fmt.Sprintf("component %s has no overlay in %s: environments/%s/%s/kustomization.yaml does not exist",
		e.Name, e.Environment, e.Environment, e.Name)
}

// Hint says how to make the overlay.
func (e *UnknownReleaseError) Hint() string {
	if e.Name == EnvironmentRelease {
		return "add the file with the objects that belong to the environment"
	}
	return fmt.Sprintf("add the component to the environment with `sluice component add %s --environments %s`", e.Name, e.Environment)
}

// UnknownTagError says that a tagged release has no overlay of that name.
type UnknownTagError struct {
	Environment, Component string
	Tag                    string
	Known                  []string
}

func (e *UnknownTagError) Error() string {
	return fmt.Sprintf("unknown tag %q of %s in %s: environments/%s/%s/%s/kustomization.yaml does not exist%s",
		e.Tag, e.Component, e.Environment, e.Environment, e.Component, e.Tag, didYouMean(e.Tag, e.Known))
}

// Hint names the known tags.
func (e *UnknownTagError) Hint() string {
	create := fmt.Sprintf("`sluice deploy %s --environment %s --build BUILD --tag %s` creates one", e.Component, e.Environment, e.Tag)
	if len(e.Known) == 0 {
		return create
	}
	return knownHint("tags", e.Known) + "; " + create
}

// UnknownBuildError says that a component has no record of a digest.
type UnknownBuildError struct {
	Component string
	Ref       string   // the digest or prefix that was asked for
	Known     []string // build ids, sorted by name
}

func (e *UnknownBuildError) Error() string {
	return fmt.Sprintf("unknown build %q of %s%s", e.Ref, e.Component, didYouMean(strings.TrimPrefix(e.Ref, digestPrefix), e.Known))
}

// Hint says where builds come from.
func (e *UnknownBuildError) Hint() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("%s has no builds yet: record one with `sluice build record --component %s --digest …`", e.Component, e.Component)
	}
	return knownHint("builds", e.Known) + fmt.Sprintf("; list them with `sluice build list %s`", e.Component)
}

// AmbiguousBuildError says that a prefix names several builds.
type AmbiguousBuildError struct {
	Component string
	Ref       string
	Matches   []string // build ids, sorted
}

func (e *AmbiguousBuildError) Error() string {
	return fmt.Sprintf("build %q of %s is ambiguous: it is the start of %s", e.Ref, e.Component, abbreviate(e.Matches))
}

// Hint says what to do about it.
func (e *AmbiguousBuildError) Hint() string { return "give more digits of the digest" }

// NotDigestError says that something else, mostly an image tag, was given
// where a digest or a prefix of one is due.
type NotDigestError struct {
	Ref string
	// Exact: a whole digest was needed, no prefix would do.
	Exact bool
}

func (e *NotDigestError) Error() string {
	switch {
	case e.Ref == "":
		return "no digest given"
	case e.Exact:
		return fmt.Sprintf("%q is not a digest: a digest is sha256: and 64 lower-case hex digits", e.Ref)
	case isHex(strings.TrimPrefix(e.Ref, digestPrefix)):
		return fmt.Sprintf("%q does not name a build: a build is named by 4 to 64 hex digits of its digest", e.Ref)
	}
	return fmt.Sprintf("%q is not a digest: builds are named by digest, not by image tag", e.Ref)
}

// Hint says what to do about it.
func (e *NotDigestError) Hint() string {
	return "image tags can be moved, digests cannot: give sha256:<64 hex digits> or, for a recorded build, at least 4 of its digits (`sluice build list`)"
}

// BuildConflictError says that a digest is already recorded with other content.
type BuildConflictError struct {
	File   string
	Fields []string // what differs, sorted as in the file
}

func (e *BuildConflictError) Error() string {
	return fmt.Sprintf("%s: the build is already recorded with other content: %s differ", e.File, strings.Join(e.Fields, ", "))
}

// Hint says what to do about it.
func (e *BuildConflictError) Hint() string {
	return "a record never changes: build again to get a new digest, or record the same content"
}

// TagRequiredError says that a tagged release needs to be told which tag.
type TagRequiredError struct {
	Environment, Component string
	Tags                   []string
	Verb                   string // deploy, rollback
}

func (e *TagRequiredError) Error() string {
	return fmt.Sprintf("%s runs as tags in %s: say which one", e.Component, e.Environment)
}

// Hint says what to do about it.
func (e *TagRequiredError) Hint() string {
	hint := "give --tag NAME"
	if e.Verb != "rollback" {
		hint += " or --bluegreen (the one idle tag)"
	}
	return hint + "; " + knownHint("tags", e.Tags)
}

// UntaggedError says that something about tags was asked of an untagged release.
type UntaggedError struct {
	Environment, Component string
}

func (e *UntaggedError) Error() string {
	return fmt.Sprintf("%s has no tags in %s: environments/%s/%s/traffic.yaml does not exist", e.Component, e.Environment, e.Environment, e.Component)
}

// Hint says how to make tags.
func (e *UntaggedError) Hint() string {
	return fmt.Sprintf("turn the overlay into tags with `sluice component tag %s --environment %s --tags blue,green`", e.Component, e.Environment)
}

// IdleTagError says that a release has no idle tag, or several.
type IdleTagError struct {
	Environment, Component string
	Idle                   []string // tags of weight 0 or not listed; empty: none
	Busy                   []Weight // tags with weight
}

func (e *IdleTagError) Error() string {
	busy := make([]string, 0, len(e.Busy))
	for _, w := range e.Busy {
		busy = append(busy, fmt.Sprintf("%s=%d", w.Tag, w.Percent))
	}
	if len(e.Idle) == 0 {
		return fmt.Sprintf("%s has no idle tag in %s: every tag has traffic (%s)", e.Component, e.Environment, strings.Join(busy, ", "))
	}
	return fmt.Sprintf("%s has several idle tags in %s: %s", e.Component, e.Environment, strings.Join(e.Idle, ", "))
}

// Hint says what to do about it.
func (e *IdleTagError) Hint() string {
	if len(e.Idle) == 0 {
		return fmt.Sprintf("take a tag's traffic away first, or name a new tag: `sluice deploy %s --environment %s --build BUILD --tag NAME` creates it", e.Component, e.Environment)
	}
	return "choose one with --tag"
}

// TagInUseError says that a tag cannot be taken because requests reach it.
type TagInUseError struct {
	Environment, Component string
	Tag                    string
	Percent                int  // its weight, or the mirror's percent
	Mirror                 bool // it is a mirror's target
	hint                   string
}

func (e *TagInUseError) Error() string {
	if e.Mirror {
		return fmt.Sprintf("tag %s of %s in %s receives a mirror of %d %% of the requests", e.Tag, e.Component, e.Environment, e.Percent)
	}
	return fmt.Sprintf("tag %s of %s in %s has %d %% of the traffic", e.Tag, e.Component, e.Environment, e.Percent)
}

// Hint says what to do about it.
func (e *TagInUseError) Hint() string { return e.hint }

// TrafficChangedError says that a condition on the present weights does not hold.
type TrafficChangedError struct {
	Environment, Component string
	Current                Traffic
	Expected               []Weight
}

func (e *TrafficChangedError) Error() string {
	return fmt.Sprintf("traffic of %s in %s is %s now, not %s: nothing was changed", e.Component, e.Environment, e.Current, printable(clip(formatWeights(e.Expected))))
}

// Hint says what to do about it.
func (e *TrafficChangedError) Hint() string {
	return fmt.Sprintf("somebody has changed it: look at it and decide again (`sluice traffic get %s --environment %s`, `sluice history %s --environment %s`)",
		e.Component, e.Environment, e.Component, e.Environment)
}

// EditError refuses an edit for a reason that has no type of its own.
type EditError struct {
	Message string
	hint    string
}

func (e *EditError) Error() string { return e.Message }

// Hint says what to do about it, "" when the message says all there is.
func (e *EditError) Hint() string { return e.hint }

func refuse(hint, format string, args ...any) error {
	return &EditError{Message: printable(fmt.Sprintf(format, args...)), hint: hint}
}

// knownHint lists names, shortened: a project may have ten thousand of them.
func knownHint(what string, names []string) string {
	if len(names) == 0 {
		return "there are no " + what + " yet"
	}
	return "known " + what + ": " + abbreviate(names)
}

func abbreviate(names []string) string {
	const most = 12
	if len(names) <= most {
		return printable(strings.Join(names, ", "))
	}
	return fmt.Sprintf("%s and %d more", printable(strings.Join(names[:most], ", ")), len(names)-most)
}
