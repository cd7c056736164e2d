package envrepo

import (
	"fmt"
	"strings"
)

// didYouMean suggests the known name nearest to a misspelt one, or nothing.
func didYouMean(name string, known []string) string {
	if best := Nearest(name, known); best != "" {
		return fmt.Sprintf(" (did you mean %q?)", best)
	}
	return ""
}

// Nearest returns the known name that a misspelt one most likely means: the one
// with the fewest typing errors, the first of several, or else the only one that
// name is the start of; "" when none is near enough to be meant. Case and which
// of - _ . separates words are no typing errors, but decide between names that
// are equally near otherwise; a name that differs in those and in where words are
// separated only is as near as can be.
func Nearest(name string, known []string) string {
	const longest = 128 // distance is quadratic in the length, and names are hostile input
	plain := fold(name)
	if name == "" || len(name) > longest {
		return ""
	}
	limit := max(1, min(3, len(plain)/3))
	best, bestDistance := "", limit+1
	for _, k := range known {
		candidate := fold(k)
		if k == name || len(k) > longest || abs(len(candidate)-len(plain)) > 4*limit {
			continue
		}
		d := 0
		if letters(candidate) != letters(plain) || letters(plain) == "" {
			d = distance(plain, candidate)
		}
		if d < bestDistance || best != "" && d == bestDistance && distance(name, k) < distance(name, best) {
			best, bestDistance = k, d
		}
	}
	if best != "" || len(name) < 3 {
		return best
	}
	for _, k := range known {
		if k == name || !strings.HasPrefix(fold(k), plain) {
			continue
		}
		if best != "" {
			return ""
		}
		best = k
	}
	return best
}

var separators = strings.NewReplacer("_", "-", ".", "-")

// fold removes what Nearest takes for no error.
func fold(name string) string { return strings.ToLower(separators.Replace(name)) }

// letters is a folded name without separators.
func letters(folded string) string { return strings.ReplaceAll(folded, "-", "") }

// distance is the optimal string alignment distance: insertions, deletions,
// substitutions and swaps of neighbours each count one.
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before := make([]int, len(t)+1)
	last := make([]int, len(t)+1)
	row := make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(s); i++ {
		row[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(t)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
