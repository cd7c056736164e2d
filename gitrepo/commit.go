package gitrepo

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// makeCommit applies an edit to a base tree and makes a commit of it. The
// commit is not stored. Its tree tells whether the edit changed anything.
func makeCommit(db *database, parents []plumbing.Hash, base *commitObject, e Edit, who identity, at time.Time) (*pendingCommit, error) {
	message := cleanMessage(e.Message)
	if message == "" {
		return nil, &EditError{"", "the commit has no message"}
	}
	c, err := newChange(e)
	if err != nil {
		return nil, err
	}
	out := &pendingCommit{objects: map[plumbing.Hash]packObject{}, builds: parents}
	tree := emptyTree
	if base != nil {
		tree = base.tree
		out.builds = append(out.builds[:len(parents):len(parents)], base.hash)
	}
	te := &treeEditor{db: db, out: out}
	root, _, err := te.folder(tree, c, "")
	if err != nil {
		return nil, err
	}
	if root == emptyTree {
		out.add(plumbing.TreeObject, nil) // the remote may lack even this one
	}
	out.tree = root
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", root)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	stamp := fmt.Sprintf("%s <%s> %d %s", who.name, who.email, at.Unix(), at.Format("-0700"))
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s\n", stamp, stamp, message)
	object := b.Bytes()
	if who.key != nil {
		key, err := who.key()
		if err != nil {
			return nil, err
		}
		if object, err = key.Sign(object); err != nil {
			return nil, err
		}
	}
	out.hash = out.add(plumbing.CommitObject, object)
	return out, nil
}

// cleanMessage makes a message that git keeps as it is: valid UTF-8, no
// control characters, no blanks at line ends, no empty lines around it.
func cleanMessage(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}
