package mutants

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/testseed"
)

// Of a few seeds come the kinds of input that parsers stumble on; the seeds stay as
// they are, and the same numbers give the same mutants.
func TestMutants(t *testing.T) {
	t.Parallel()
	seeds := [][]any{{"kind: Service\nname: api\n", 7, false}, {"images:\n- digest: sha256:0123\n", 7, false}}
	draw := func(m mutator, each func(mutant []any)) {
		for range 20_000 {
			each(m.mutate(seeds[0]))
		}
	}
	seen, mutants := map[string]bool{}, map[string]bool{}
	var first [][]any
	draw(mutator{rand.New(rand.NewPCG(1, 2)), seeds}, func(mutant []any) {
		text, number, other := mutant[0].(string), mutant[1].(int), mutant[2].(bool)
		first = append(first, mutant)
		mutants[text] = true
		require.LessOrEqual(t, len(text), longest)
		for what, is := range map[string]bool{
			"empty": text == "", "long": len(text) > 1000, "no UTF-8": !utf8.ValidString(text), "deep": strings.Contains(text, "[[[["),
			"with an alias": strings.Contains(text, "*a"), "with a path upwards": strings.Contains(text, ".."), "with a line twice": strings.Count(text, "name: api\n") > 1,
			"with a part of another seed": strings.Contains(text, "kind") && strings.Contains(text, "digest"), "in another order": strings.HasPrefix(text, "name:"),
			"with another parent": strings.Contains(text, "\n  name: api"), "with a NUL": strings.Contains(text, "\x00"), "with another value": strings.Contains(text, "name: null\n"),
			"with a value of another seed": strings.Contains(text, "name: sha256:0123\n"), "with the other bool": other, "with a huge number": number > 1<<40, "with a number below zero": number < 0,
		} {
			seen[what] = seen[what] || is
		}
	})
	for what, found := range seen {
		assert.True(t, found, "no mutant is %s", what)
	}
	assert.Greater(t, len(mutants), 5_000, "different texts")
	assert.Equal(t, "kind: Service\nname: api\n", seeds[0][0])
	i := 0
	draw(mutator{rand.New(rand.NewPCG(1, 2)), seeds}, func(mutant []any) {
		require.Equal(t, first[i], mutant)
		i++
	})
}

// What a target does to a slice is not seen by the next mutant.
func TestMutantsShareNothing(t *testing.T) {
	t.Parallel()
	seed := [][]any{{[]byte("a: b\n")}, {[]byte("c: d\n")}}
	m := mutator{rand.New(rand.NewPCG(3, 4)), seed}
	for range 2_000 {
		data := m.mutate(seed[0])[0].([]byte)
		for i := range data {
			data[i] = 0xff
		}
	}
	assert.Equal(t, [][]any{{[]byte("a: b\n")}, {[]byte("c: d\n")}}, seed)
}

// A seed has the same mutants in whichever order a target adds its seeds.
func TestMutantsOfASeed(t *testing.T) {
	t.Parallel()
	seeds := [][]any{{"a: b\n"}, {"c: d\n"}, {"- e\n- f\n"}}
	of := func(seeds [][]any, seed string) (tried []string) {
		r := &runner{seeds: inOrder(seeds), time: time.Hour, count: 100,
			target: reflect.ValueOf(func(_ *testing.T, text string) { tried = append(tried, text) })}
		r.run([]reflect.Value{reflect.ValueOf(t), reflect.ValueOf(seed)})
		return tried
	}
	want := of(seeds, "c: d\n")
	require.Len(t, want, 101)
	assert.NotEqual(t, want[1:], of(seeds, "a: b\n")[1:])
	slices.Reverse(seeds)
	assert.Equal(t, want, of(seeds, "c: d\n"))
}

// Only who asks for it gets others with each run.
func TestDrawn(t *testing.T) {
	t.Setenv(testseed.Variable, "7")
	for budget, want := range map[string]uint64{"": 0, "1s": 7} {
		t.Setenv(Variable, budget)
		assert.Equal(t, want, drawn(t), budget)
	}
}
