package gitrepo

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// refs maps full ref names to hashes.
type refs map[string]plumbing.Hash

// decodePackedRefs reads git's packed-refs format. A mirror keeps all its refs
// in this one file: replacing it changes several refs at once, and no name
// stands in another's way as a folder.
func decodePackedRefs(data []byte) (refs, error) {
	r := refs{}
	sc := bufio.NewScanner(bytes.NewReader(data))
	for line := 1; sc.Scan(); line++ {
		text := sc.Text()
		if text == "" || text[0] == '#' || text[0] == '^' {
			continue
		}
		hash, name, ok := strings.Cut(text, " ")
		if !ok || !plumbing.IsHash(hash) || !validRefName(name) {
			return nil, fmt.Errorf("packed-refs:%d: malformed line", line)
		}
		r[name] = plumbing.NewHash(hash)
	}
	return r, sc.Err()
}

func (r refs) encode() []byte {
	names := make([]string, 0, len(r))
	for n := range r {
		names = append(names, n)
	}
	sort.Strings(names)
	var b bytes.Buffer
	b.WriteString("# pack-refs with: sorted \n")
	for _, n := range names {
		fmt.Fprintf(&b, "%s %s\n", r[n], n)
	}
	return b.Bytes()
}

func (r refs) equal(other refs) bool {
	if len(r) != len(other) {
		return false
	}
	for n, h := range r {
		if o, ok := other[n]; !ok || o != h {
			return false
		}
	}
	return true
}

// validRefName says whether a name is a full ref name that git accepts. Names
// come from remotes.
func validRefName(name string) bool {
	// The rules of git check-ref-format, written out since go-git's check costs
	// microseconds and a forge may list a hundred thousand refs with every poll.
	rest, ok := strings.CutPrefix(name, "refs/")
	if !ok || len(name) > 1024 || strings.HasSuffix(name, ".") || strings.Contains(name, "..") || strings.Contains(name, "@{") {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`~^:?*[\`, c) >= 0 {
			return false
		}
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || part == "@" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return !strings.HasPrefix(name, "refs/heads/-") && !strings.HasPrefix(name, "refs/tags/-")
}

// matchRef says whether a pattern, which may hold one * for any characters,
// names a ref.
func matchRef(pattern, name string) bool {
	before, after, glob := strings.Cut(pattern, "*")
	if !glob {
		return pattern == name
	}
	return len(name) >= len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

func readRefs(dir string) (refs, error) {
	data, err := os.ReadFile(filepath.Join(dir, "packed-refs"))
	if os.IsNotExist(err) {
		return refs{}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodePackedRefs(data)
}

func writeRefs(dir string, r refs) error {
	return replaceFile(filepath.Join(dir, "packed-refs"), r.encode())
}

// replaceFile writes a file so that readers see the old or the new content.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "tmp_")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
