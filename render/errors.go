package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// InputError says that a file of the repository is not read, and why: what it
// asks for is refused, missing or out of bounds.
type InputError struct {
	File   string
	Line   int    // 0 when unknown
	Field  string // resources, images.digest, …; "" when it is the whole file
	Value  string // what stands there, shortened; "" when nothing does
	Reason string
	Remedy string
}

func (e *InputError) Error() string {
	var b strings.Builder
	b.WriteString(position(e.File, e.Line))
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	if e.Value != "" {
		b.WriteString(quoted(e.Value) + " ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Hint says what to do about it.
func (e *InputError) Hint() string { return e.Remedy }

// ObjectError says that a rendered object must not be applied.
type ObjectError struct {
	Dir    string // the folder that was rendered
	Object string // kind namespace/name
	Field  string // path in the object; "" when it is the whole object
	Reason string
	Remedy string
}

func (e *ObjectError) Error() string {
	where := e.Dir + ": " + e.Object
	if e.Field != "" {
		where += ": " + e.Field
	}
	return where + ": " + e.Reason
}

// Hint says what to do about it.
func (e *ObjectError) Hint() string { return e.Remedy }

// ImageError says that an image is not the one that an overlay pins.
type ImageError struct {
	File    string // the overlay's kustomization file
	Line    int    // of the images entry; 0 when unknown
	Image   string // the image name
	Digest  string // the digest (or tag) due
	Object  string // the object whose container runs another image; "" when no container runs Image
	Found   string // what that container runs, or the nearest image name rendered
	Missing bool   // the entry pins nothing
}

func (e *ImageError) Error() string {
	if e.Missing {
		return fmt.Sprintf("%s: images: %s pins nothing: no rendered container uses %s",
			position(e.File, e.Line), quoted(e.Image), pinned(e.Image, e.Digest))
	}
	return fmt.Sprintf("%s: images: %s runs %s instead of %s",
		position(e.File, e.Line), e.Object, quoted(e.Found), pinned(e.Image, e.Digest))
}

// Hint says what to do about it.
func (e *ImageError) Hint() string {
	switch {
	case !e.Missing:
		return "leave the image to the images entry: remove patches of it, and name it " + e.Image + " in the manifest"
	case e.Found != "":
		return "the nearest rendered image is " + e.Found + ": correct the name in the images entry, the manifest or component.yaml"
	}
	return "no container is rendered: add the component's folder to resources, or remove the images entry"
}

func pinned(image, digest string) string {
	switch {
	case digest == "":
		return image
	case strings.Contains(digest, ":"):
		return image + "@" + digest
	}
	return image + ":" + digest
}

// LintError says that a release is well-formed and must not be applied: what
// [Lint] found in it would work otherwise than meant, and silently.
type LintError struct {
	Dir      string    // the release's folder
	Findings []Finding // those of severity error, in the order of Lint
}

// Error lists every finding, each on a line of its own when there are several.
func (e *LintError) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = f.String()
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return fmt.Sprintf("%d findings in %s:\n%s", len(lines), e.Dir, strings.Join(lines, "\n"))
}

// Hint says what to do about the first few findings.
func (e *LintError) Hint() string {
	const most = 3
	var hints []string
	for _, f := range e.Findings {
		if f.Hint != "" && !slices.Contains(hints, f.Hint) {
			if hints = append(hints, f.Hint); len(hints) == most {
				break
			}
		}
	}
	return strings.Join(hints, "; ")
}

// BuildError is an error of Kustomize.
type BuildError struct {
	Dir string // the folder that was rendered
	// Err is Kustomize's error; nil when its text may hold decrypted values
	// and is withheld.
	Err error
	// Files are the encrypted files of the folder when Err is withheld.
	Files []string
}

func (e *BuildError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("building %s: the content of an encrypted file (%s) is refused; the message may hold it and is withheld",
			e.Dir, strings.Join(e.Files, ", "))
	}
	return fmt.Sprintf("building %s: %v", e.Dir, e.Err)
}

func (e *BuildError) Unwrap() error { return e.Err }

// Hint says how to see more.
func (e *BuildError) Hint() string {
	if e.Err == nil {
		return "decrypt the file and look for lines that are not NAME=value, and for broken YAML"
	}
	return "kubectl kustomize " + e.Dir + " shows the same error"
}

// errPanic stands for a panic in a library: its value may hold anything.
var errPanic = errors.New("a library panicked on this input")

func position(file string, line int) string {
	if line > 0 {
		return fmt.Sprintf("%s:%d", file, line)
	}
	return file
}

// quoted shortens a value of a hostile file and keeps it on one line.
func quoted(s string) string {
	const limit = 200
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
