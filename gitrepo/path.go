package gitrepo

import (
	"io/fs"
	"strings"
	"unicode/utf8"
)

const (
	maxNameBytes = 255
	maxPathBytes = 4096
)

// checkPath says why a repository path cannot be written, "" when it can.
func checkPath(p string) (reason string) {
	switch {
	case p == "" || p == ".":
		return "the path names no file"
	case len(p) > maxPathBytes:
		return "the path is too long"
	case strings.HasPrefix(p, "/"):
		return "the path must be relative to the repository"
	case !utf8.ValidString(p):
		return "the path is not valid UTF-8"
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "the path has a control character"
	case !fs.ValidPath(p):
		return `the path has an empty, "." or ".." part or ends in a slash`
	}
	for _, name := range strings.Split(p, "/") {
		if len(name) > maxNameBytes {
			return "a part of the path is too long"
		}
		if isDotGit(name, ".git", "git~1") {
			return "git keeps names like .git for itself"
		}
		// Sluice has no use for submodules, and git parses this file: it has been a way into clones.
		if isDotGit(name, ".gitmodules", "gitmod~1") {
			return "submodules are not supported"
		}
	}
	return ""
}

// badName says why a name may not stand in a tree, "" when it may.
func badName(name string) (reason string) {
	switch {
	case name == "":
		return "is empty"
	case name == "." || name == "..":
		return "would leave its folder"
	case strings.ContainsRune(name, '/'):
		return "has a slash"
	case isDotGit(name, ".git", "git~1"):
		return "git keeps for itself"
	}
	return ""
}

// isDotGit says whether some file system would take a name for want: one that
// ignores case, one that ignores what follows a colon and dots and blanks at
// the end (NTFS, which also has the short name), or one that ignores
// zero-width characters (HFS+). git fsck judges the same.
func isDotGit(name, want, shortName string) bool {
	for _, part := range strings.Split(name, `\`) {
		part = strings.Map(func(r rune) rune {
			switch {
			case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
				return -1
			}
			return r
		}, part)
		part, _, _ = strings.Cut(part, ":")
		part = strings.ToLower(strings.TrimRight(part, ". "))
		if part == want || part == shortName {
			return true
		}
	}
	return false
}
