// Package mutants makes go test try more of a fuzz target than its seeds: beside
// each of them, as many mutants of it as fit a budget. A target begins with
//
//	func FuzzX(ff *testing.F) {
//		f := mutants.New(ff)
//
// and goes on as any other, with f.Add and f.Fuzz. Under go test -fuzz, which makes
// better mutants of its own, it is exactly that.
//
// The budget bounds the work and fails nothing: on a slow machine fewer mutants are
// tried. Which ones follows from the seed that they come from alone, so that a commit
// is judged alike wherever it is tested; who gives a budget (Variable) looks for more,
// and gets others with each run. The first that fails is printed, and kept where go test
// finds it the next time.
package mutants

import (
	"bytes"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/internal/testseed"
)

// Variable of the environment is a target's time for mutants instead of budget, as
// Go writes durations; 0 tries none. Given, the mutants are drawn from the run's seed
// (package testseed).
const Variable = "SLUICE_TEST_MUTANTS"

const (
	budget    = 500 * time.Millisecond
	perSecond = 2000 // mutants of a target at most: quick targets do not use up their time

	// slow is when a mutant is named that has not ended yet: of one that never does,
	// the test's own timeout would not tell.
	slow = 30 * time.Second
)

// F is a fuzz target's testing.F that tries mutants.
type F struct {
	*testing.F
	seeds [][]any
}

// New returns the F of a target.
func New(f *testing.F) *F { return &F{F: f} }

// Add adds a seed.
func (f *F) Add(args ...any) {
	f.Helper()
	f.F.Add(args...)
	f.seeds = append(f.seeds, slices.Clone(args))
}

// Fuzz runs the target on each seed and on mutants of it.
func (f *F) Fuzz(target any) {
	f.Helper()
	total := allowance(f.F)
	if total == 0 {
		f.F.Fuzz(target)
		return
	}
	kept, _ := os.ReadDir(corpusDir(f.Name())) // none, where there is none
	share := max(1, len(f.seeds)+len(kept))
	r := &runner{
		name: f.Name(), target: reflect.ValueOf(target), seeds: inOrder(f.seeds), seed: drawn(f),
		time: total / time.Duration(share), count: int(total.Seconds()*perSecond)/share + 1,
	}
	f.F.Fuzz(reflect.MakeFunc(r.target.Type(), r.run).Interface())
}

// inOrder returns seeds in an order of their own: a target may add them as it finds
// them in a map.
func inOrder(seeds [][]any) [][]any {
	return slices.SortedStableFunc(slices.Values(seeds), func(a, b []any) int { return bytes.Compare(encode(a), encode(b)) })
}

// drawn is what mutants are drawn from.
func drawn(t testing.TB) uint64 {
	t.Helper()
	if os.Getenv(Variable) == "" {
		return 0
	}
	return testseed.Of(t)
}

// allowance is the time that a target has for mutants.
func allowance(f *testing.F) time.Duration {
	f.Helper()
	if fuzzing := flag.Lookup("test.fuzz"); fuzzing != nil && fuzzing.Value.String() != "" {
		return 0
	}
	if given := os.Getenv(Variable); given != "" {
		d, err := time.ParseDuration(given)
		if err != nil || d < 0 {
			f.Fatalf("%s: %q is no duration, as 10s is", Variable, given)
		}
		return d
	}
	if testing.Short() {
		return budget / 10
	}
	return budget
}

// runner runs a target. Its time and count are those of one seed.
type runner struct {
	name   string
	target reflect.Value
	seeds  [][]any
	seed   uint64
	time   time.Duration
	count  int
}

// run stands in for the target: the arguments are its own.
func (r *runner) run(args []reflect.Value) []reflect.Value {
	t := args[0].Interface().(*testing.T)
	original := make([]any, 0, len(args)-1)
	for _, a := range args[1:] {
		original = append(original, a.Interface())
	}
	r.target.Call(args)

	from := fnv.New64a()
	_, _ = from.Write(encode(original))
	m := mutator{rand.New(rand.NewPCG(r.seed, from.Sum64())), append(slices.Clip(r.seeds), original)}
	end := time.Now().Add(r.time)
	for range r.count {
		if t.Failed() {
			break
		}
		r.try(t, m.mutate(original))
		if time.Now().After(end) {
			break
		}
	}
	return nil
}

// try calls the target with a mutant, and tells of it what a person needs who has
// to repeat it, however the call ends.
func (r *runner) try(t *testing.T, mutant []any) {
	t.Helper()
	input := encode(mutant)
	watch := time.AfterFunc(slow, func() {
		fmt.Fprintf(os.Stderr, "%s: this has not ended within %s:\n%s", t.Name(), slow, input)
	})
	passed := false
	defer func() {
		t.Helper()
		watch.Stop()
		switch {
		case passed && !t.Failed():
		case t.Skipped():
			t.Errorf("the target skips a mutant, and the rest with it: let it return")
		default:
			again := ""
			if r.seed != 0 {
				again = fmt.Sprintf(" %s=%d tries the same mutants again.", testseed.Variable, r.seed)
			}
			t.Logf("%s.%s The input is:\n%s", keep(r.name, input), again, input)
		}
	}()
	args := []reflect.Value{reflect.ValueOf(t)}
	for _, a := range mutant {
		args = append(args, reflect.ValueOf(a))
	}
	r.target.Call(args)
	passed = true
}

// corpusDir is where go test looks for further seeds of a target.
func corpusDir(target string) string { return filepath.Join("testdata", "fuzz", target) }
