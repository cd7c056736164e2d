package reconciler

import (
	"maps"
	"slices"
	"strings"
)

// closures finds the releases that a path decides. A release is decided by what
// is at its paths and below them, whether that exists yet or not.
type closures struct {
	at map[string]decided // by path, the folders above included
}

// decided are the releases of a path, sorted, and how often paths below it
// decide any.
type decided struct {
	releases []string
	below    int
}

func newClosures() closures { return closures{at: map[string]decided{}} }

// replace takes the paths of a release that decided it until now for others.
func (c closures) replace(release string, old, now []string) {
	if slices.Equal(old, now) {
		return
	}
	for _, p := range old {
		d := c.at[p]
		if i, found := slices.BinarySearch(d.releases, release); found {
			d.releases = slices.Delete(d.releases, i, i+1)
			c.put(p, d, -1)
		}
	}
	for _, p := range now {
		d := c.at[p]
		if i, found := slices.BinarySearch(d.releases, release); !found {
			d.releases = slices.Insert(d.releases, i, release)
			c.put(p, d, +1)
		}
	}
}

// put stores what a path decides, and that there is one more or less below each
// folder above it.
func (c closures) put(p string, d decided, more int) {
	c.store(p, d)
	for dir := range ancestors(p) {
		d := c.at[dir]
		d.below += more
		c.store(dir, d)
	}
}

func (c closures) store(p string, d decided) {
	if len(d.releases) == 0 && d.below == 0 {
		delete(c.at, p)
		return
	}
	c.at[p] = d
}

// of are the releases that a path itself decides.
func (c closures) of(p string) []string { return c.at[p].releases }

// anyBelow reports whether paths below a folder decide a release.
func (c closures) anyBelow(p string) bool { return c.at[p].below > 0 }

// below are the releases that paths below a folder decide. All paths are looked
// at: it is for what happens seldom.
func (c closures) below(dir string) []string {
	found := map[string]bool{}
	for p, d := range c.at {
		if dir == "." || strings.HasPrefix(p, dir+"/") {
			for _, name := range d.releases {
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
