package gitrepo

import (
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo/signature"
	"github.com/sluice-dev/sluice/internal/mutants"
)

// FuzzCommit: a commit is read as git reads it, its tree in the first line, its
// parents right behind it and its message below the headers; and what a signature
// signs is the commit that is read.
func FuzzCommit(ff *testing.F) {
	f := mutants.New(ff)
	tree, parent := "tree "+strings.Repeat("1a", 20)+"\n", "parent "+strings.Repeat("2b", 20)+"\n"
	const people = "author Ann <ann@example.com> 1764000000 +0100\ncommitter Bob <bob@example.com> 1764000001 -0000\n"
	const signed = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQEz\n =abcd\n -----END PGP SIGNATURE-----\n"
	f.Add([]byte(tree + people + "\nStart\n"))
	f.Add([]byte(tree + parent + parent + people + signed + "\nMerge\n\nthe rest\n"))
	f.Add([]byte(tree + parent + people + "encoding ISO-8859-1\nmergetag object " + strings.Repeat("3c", 20) + "\n type commit\n tag v1\n\n \n" + signed + "\n"))
	f.Add([]byte(tree + signed + parent + people + "\nMerge\n"))
	f.Add([]byte(tree + tree + parent + people + parent + "\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCommit(plumbing.ZeroHash, data)
		if err != nil {
			return
		}
		head, message, _ := strings.Cut(string(data), "\n\n")
		require.Equal(t, message, c.Message)
		lines := strings.Split(head, "\n")
		require.Equal(t, "tree "+c.tree.String(), strings.ToLower(lines[0]))
		lines = lines[1:]
		for _, p := range c.Parents {
			require.NotEmpty(t, lines)
			require.Equal(t, "parent "+p, strings.ToLower(lines[0]))
			lines = lines[1:]
		}
		require.False(t, len(lines) > 0 && strings.HasPrefix(lines[0], "parent "), "%q is passed over", lines)

		payload, _, err := signature.Split(data)
		if err != nil {
			return
		}
		verified, err := decodeCommit(plumbing.ZeroHash, payload)
		require.NoError(t, err)
		require.Equal(t, c, verified)
	})
}
