package render

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// refusal says why a path is not followed. The zero value allows it.
type refusal struct{ reason, remedy string }

func (r refusal) ok() bool { return r.reason == "" }

const (
	remedyCopy   = "copy the files into the repository: nothing is fetched while rendering"
	remedyInside = "use a relative path to a file or folder of this project"
)

var (
	userAtHost = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*@`)
	gitHub     = regexp.MustCompile(`(?i)^github\.com[/:]`)
)

// remoteLike refuses every path that Kustomize takes for something remote. It
// is wider than Kustomize's own parsers (url.Parse for files, then a Git URL
// parser for folders), which cannot be switched off: a remote path is fetched
// even from an in-memory file system, and a Git base runs git.
func remoteLike(value string) refusal {
	first, _, _ := strings.Cut(value, "/")
	switch {
	case strings.Contains(value, "://"), strings.Contains(first, ":"):
		return refusal{"is a URL or a remote location", remedyCopy}
	case gitHub.MatchString(value), userAtHost.MatchString(value):
		return refusal{"is a remote Git repository", remedyCopy}
	case strings.Contains(value, "//"), strings.Contains(value, "?"):
		return refusal{"looks like a remote Git repository", remedyCopy}
	}
	return refusal{}
}

// resolve returns the path in the project that value means in folder dir.
func resolve(dir, value string) (string, refusal) {
	if value == "" {
		return "", refusal{"is empty", "name a file or folder"}
	}
	if r := remoteLike(value); !r.ok() {
		return "", r
	}
	if strings.HasPrefix(value, "/") {
		return "", refusal{"is an absolute path", remedyInside}
	}
	for _, r := range value {
		if r < ' ' || r == 0x7f || r == '\\' {
			return "", refusal{"holds a character that paths may not hold", remedyInside}
		}
	}
	p := path.Join(dir, value)
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", refusal{"leads out of the project", remedyInside}
	}
	if !fs.ValidPath(p) {
		return "", refusal{"is not a path", remedyInside}
	}
	return p, refusal{}
}

// ambiguous finds path segments such as "base - .." that YAML makes of two
// misindented list items; Kustomize refuses them in folders.
func ambiguous(value string) bool {
	for seg := range strings.SplitSeq(value, "/") {
		if seg != ".." && strings.Contains(seg, "..") {
			return true
		}
	}
	return false
}

// below reports whether p is dir or lies in it.
func below(p, dir string) bool {
	return dir == "." || p == dir || strings.HasPrefix(p, dir+"/")
}

const (
	environmentsDir = "environments"
	componentsDir   = "components"
)

// scope says which paths a render may read.
type scope struct {
	environment string // the environment whose folder may be read; "" for any
	release     bool   // read nothing but that folder and components/
}

// scopeOf is the scope of rendering a folder on its own: nothing of another
// environment.
func scopeOf(dir string) scope {
	parts := strings.Split(dir, "/")
	if parts[0] == environmentsDir && len(parts) > 1 {
		return scope{environment: parts[1]}
	}
	return scope{}
}

func (s scope) check(p string) refusal {
	if s.environment == "" {
		return refusal{}
	}
	own := environmentsDir + "/" + s.environment
	switch {
	case below(p, own):
		return refusal{}
	case below(p, environmentsDir):
		return refusal{"is in another environment's folder",
			"an environment reads its own folder and components/ only: move what is shared to components/"}
	case s.release && !below(p, componentsDir):
		return refusal{"is neither in " + own + " nor in components",
			"move it to components/, which every environment may read"}
	}
	return refusal{}
}
