package reconciler

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// plain is a weighing that walks all accounts: what the incremental one has to come
// to.
type plain struct{ l *ledger }

func (p plain) among(is func(*account) bool) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(p.l.accounts)) {
		if is(p.l.accounts[name]) {
			names = append(names, name)
		}
	}
	return names
}

func (p plain) stuck(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !p.l.accounts[name].stalled })
}

func (p plain) waits(names []string) string {
	stuck := p.stuck(names)
	first := ""
	if stuck {
		first = some(names, min(len(names), fewNames), "", "")
	}
	return fmt.Sprint(standingWait, stuck, first)
}

func (p plain) condemned(a *account) []inventory.ID {
	if a.outside {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(a.leaving), func(id inventory.ID) bool {
		return len(p.among(func(b *account) bool { _, ok := b.declares[id]; return ok })) > 0
	})
}

func (p plain) doubters(name string) []string {
	a := p.l.accounts[name]
	others := p.among(func(b *account) bool { return b != a && b.unclear != "" && b.since >= a.left })
	for i, other := range others {
		others[i] = fmt.Sprintf("%s (%s)", other, p.l.accounts[other].unclear)
	}
	return others
}

func (p plain) recorded(a *account) bool {
	return a.acknowledged != "" && slices.Contains(p.l.rules.acknowledged, a.acknowledged)
}

func (p plain) token(recorded string, held func(string) bool) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "environment %q\n", p.l.environment)
	for _, name := range p.among(func(a *account) bool { return len(p.condemned(a)) > 0 }) {
		a := p.l.accounts[name]
		if p.recorded(a) && a.acknowledged != recorded || !held(name) {
			continue
		}
		fmt.Fprintf(sum, "release %q\n", name)
		for _, id := range p.condemned(a) {
			fmt.Fprintf(sum, "%q %q\n", id.String(), a.uids[id])
		}
	}
	text := hex.EncodeToString(sum.Sum(nil))
	return text[strings.IndexAny(text, "abcdef"):][:12]
}

// standing is how a release stands, and whether anything can be said of it at all.
func (p plain) standing(name string) (text string, definite bool) {
	leaving, open, acknowledged, before, unsure := 0, 0, 0, 0, 0
	var recorded []string
	for _, other := range p.among(func(*account) bool { return true }) {
		a := p.l.accounts[other]
		before += a.before
		if a.outside {
			continue
		}
		leaving += len(a.leaving)
		if !a.known {
			unsure += a.objects
		}
		if n := len(p.condemned(a)); n > 0 && p.recorded(a) {
			acknowledged += n
			recorded = append(recorded, a.acknowledged)
		} else {
			open += n
		}
	}
	undeclared := p.among(func(a *account) bool { return !a.outside && !a.declaredKnown })
	unread := p.among(func(a *account) bool { return !a.outside && !a.known })
	exceeds := p.l.exceeds(open+unsure, max(before-acknowledged, open))
	a := p.l.accounts[name]
	switch {
	case leaving == 0:
		return standingFree, true
	case p.l.taking:
		return fmt.Sprint(standingWait, false, ""), false
	case len(undeclared) > 0:
		return p.waits(undeclared), p.stuck(undeclared)
	case len(p.among(func(a *account) bool { return a.outside && a.generation != 0 && !a.declaredKnown })) > 0:
		return fmt.Sprint(standingWait, false, "for a render"), true
	}
	grant, token, whole := "", "", exceeds
	everything := func(string) bool { return true }
	held := func(name string) bool { return whole || len(p.doubters(name)) > 0 }
	pending := p.among(func(a *account) bool { return len(p.condemned(a)) > 0 && !p.recorded(a) })
	doubtful := slices.ContainsFunc(pending, held)
	if len(unread) == 0 && len(pending) > 0 {
		for _, t := range recorded {
			if p.token(t, everything) == t {
				grant, whole = t, true
			}
		}
		for _, t := range recorded {
			if grant == "" && doubtful && p.token(t, held) == t {
				grant = t
			}
		}
		if grant == "" && doubtful {
			token = p.token("", held)
			if slices.Contains(p.l.rules.acknowledged, token) {
				grant = token
			}
		}
	}
	switch {
	case len(p.condemned(a)) == 0, p.recorded(a) && a.acknowledged != grant, !held(name):
		return standingFree, true
	case len(unread) > 0:
		return p.waits(unread), true
	}
	doubters := ""
	if d := p.doubters(name); len(d) > 0 {
		doubters = some(d, len(d), "release", "releases")
	}
	return fmt.Sprintf("grant %s token %s doubt %s", grant, token, doubters), true
}

// sums are those of the accounts, added up anew.
func (p plain) sums() *ledger {
	fresh := newLedger(p.l.environment)
	fresh.rules = p.l.rules
	for name, a := range p.l.accounts {
		c := *a
		c.condemned = 0
		fresh.accounts[name] = &c
		fresh.recount(name, &account{declaredKnown: true, known: true}, &c)
	}
	return fresh
}

func sortedIndex(index map[inventory.ID][]string) map[inventory.ID][]string {
	out := map[inventory.ID][]string{}
	for id, names := range index {
		out[id] = slices.Sorted(slices.Values(names))
	}
	return out
}

func (p plain) check(t *testing.T, did string) {
	t.Helper()
	l, want := p.l, p.sums()
	got, sums := l.sums, want.sums
	got.unclearNames, got.doubt, got.undeclared.sorted, got.unread.sorted = nil, 0, nil, nil
	sums.unclearNames, sums.doubt, sums.undeclared.sorted, sums.unread.sorted = nil, 0, nil, nil
	require.Equal(t, sums, got, did)
	require.Equal(t, sortedIndex(want.declared), sortedIndex(l.declared), did)
	require.Equal(t, sortedIndex(want.leavers), sortedIndex(l.leavers), did)
	w := l.weigh()
	for name, a := range l.accounts {
		standing, definite := p.standing(name)
		require.Equal(t, standing, l.standing(w, name, a), "%s: release %s", did, name)
		if definite && a.known && l.waiting[name] {
			require.Equal(t, standing, a.standing, "%s: release %s waits and was not called", did, name)
		}
	}
}

// storm does something to a ledger at random. Few names and objects, so that they
// meet.
type storm struct {
	*rand.Rand
	l      *ledger
	tokens []string
}

func (s *storm) name() string { return string(rune('a' + s.IntN(6))) }

func (s *storm) some(most int) inventory.Set {
	set := inventory.Set{}
	for range s.IntN(most + 1) {
		set[inventory.ID{Kind: "ConfigMap", Name: fmt.Sprint(s.IntN(12))}] = "v1"
	}
	return set
}

func (s *storm) why(one string) string {
	if s.IntN(4) > 0 {
		return ""
	}
	return one
}

func (s *storm) blow() string {
	name := s.name()
	switch s.IntN(12) {
	case 0:
		var keys []Key
		for range s.IntN(4) {
			keys = append(keys, Key{"production", s.name()})
		}
		s.l.take(pruneRules{maxShare: []int{10, 50, 100}[s.IntN(3)], removed: s.why(s.why("is gone")), acknowledged: s.tokens[max(0, len(s.tokens)-3):]})
		if s.IntN(8) > 0 {
			s.l.taken(keys)
		}
		return fmt.Sprint("commit ", keys)
	case 1:
		s.l.ended(name, s.l.generation(name), s.IntN(2) == 0)
		return "ended " + name
	case 2:
		s.l.declare(name, s.l.generation(name), s.some(4), s.why("does not render"))
		return "declare " + name
	case 3:
		if s.IntN(8) == 0 {
			s.l.scope([]Key{{"production", name}, {"production", s.name()}})
		} else {
			s.l.taken(nil)
		}
		return "scope " + name
	case 4:
		if s.IntN(2) == 0 {
			s.l.drop(name)
		} else {
			s.l.found(name, 3, 2)
		}
		return "drop or found " + name
	}
	a := account{objects: s.IntN(8), declares: s.some(4), unclear: s.why("does not render"), keeps: s.why("is paused"), uids: map[inventory.ID]types.UID{}}
	if s.IntN(4) > 0 {
		a.leaving = s.some(6).Minus(a.declares).Sorted()
	}
	for _, id := range a.leaving {
		a.uids[id] = types.UID(fmt.Sprint("uid-", s.IntN(20)/19))
	}
	a.before = a.objects
	if n := len(s.tokens); n > 0 && s.IntN(3) == 0 {
		a.acknowledged = s.tokens[n-1]
	}
	for id := range s.some(1) {
		a.claims = map[inventory.ID]string{id: s.name()}
	}
	r := s.l.enter(name, s.l.generation(name), a)
	if r.Acknowledge != "" {
		a.acknowledged = r.Acknowledge
		s.l.enter(name, s.l.generation(name), a)
	}
	if r.Held != nil && s.IntN(2) == 0 {
		s.tokens = append(s.tokens, r.Held.Token)
	}
	return "enter " + name
}

func TestWeighingIsThatOfAllAccounts(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(60) {
		s := &storm{Rand: rand.New(rand.NewPCG(seed, 1)), l: newLedger("production")}
		s.l.taken([]Key{{"production", "a"}, {"production", "b"}, {"production", "c"}})
		for n := range 150 {
			did := s.blow()
			plain{s.l}.check(t, fmt.Sprintf("seed %d, step %d: %s", seed, n, did))
			for name, a := range s.l.accounts {
				standing := s.l.standing(s.l.weigh(), name, a)
				word, _, _ := strings.Cut(strings.NewReplacer("true", " ", "false", " ").Replace(standing), " ")
				if strings.HasPrefix(standing, "grant  ") {
					word = "held"
				}
				if strings.Contains(standing, "doubt release") {
					word += " in doubt"
				}
				seen[word]++
			}
			s.l.called()
		}
		for _, name := range slices.Collect(maps.Keys(s.l.accounts)) {
			s.l.drop(name)
		}
		l := s.l
		for what, left := range map[string]int{"accounts": len(l.accounts), "declared": len(l.declared), "leavers": len(l.leavers), "waiting": len(l.waiting), "stirred": len(l.stirred), "movers": len(l.movers), "asked": len(l.asked)} {
			assert.Zero(t, left, "%s of releases that are gone", what)
		}
		assert.Equal(t, newSums().condemning, l.sums.condemning)
	}
	for _, word := range []string{standingFree, standingWait, "held", "held in doubt", "grant", "grant in doubt"} {
		assert.Positive(t, seen[word], "%s never came about: %v", word, seen)
	}
}

// village is an environment of many releases of six objects each.
type village struct {
	l    *ledger
	keys []Key
}

func newVillage(n int) *village {
	v := &village{l: newLedger("production")}
	for i := range n {
		v.keys = append(v.keys, Key{"production", fmt.Sprintf("release-%05d", i)})
	}
	v.commit()
	return v
}

func (v *village) commit(acknowledged ...string) {
	v.l.take(pruneRules{maxShare: 50, acknowledged: acknowledged})
	v.l.taken(v.keys)
}

// enter has every release leave some of its objects, and calls until nobody is
// called any more; it returns how many passes that takes.
func (v *village) enter(change func(i int, a *account)) (passes int) {
	index := map[string]int{}
	var next []string
	for i, k := range v.keys {
		index[k.Release] = i
		next = append(next, k.Release)
	}
	for len(next) > 0 {
		name := next[0]
		next = next[1:]
		a := account{objects: 6, before: 6, declares: inventory.Set{}, uids: map[inventory.ID]types.UID{}}
		for j := range 6 {
			a.declares[inventory.ID{Kind: "ConfigMap", Name: fmt.Sprint(name, "-", j)}] = "v1"
		}
		change(index[name], &a)
		v.l.enter(name, v.l.generation(name), a)
		next = append(next, v.l.called()...)
		passes++
	}
	return passes
}

// leave has an account leave objects.
func leave(a *account, n int) {
	for _, id := range a.declares.Sorted()[:n] {
		delete(a.declares, id)
		a.leaving = append(a.leaving, id)
	}
}

// A deletion in every release, held, acknowledged and done, costs each release the
// same however many there are.
func TestEnteringCostsWhatItChanges(t *testing.T) {
	t.Parallel()
	for _, n := range []int{400, 4000} {
		within := newVillage(n)
		passes := within.enter(func(_ int, a *account) { leave(a, 1) })
		passes += within.enter(func(_ int, a *account) { leave(a, 1); a.leaving = nil })
		assert.LessOrEqual(t, passes, 4*n, "one object of each of %d", n)
		assert.LessOrEqual(t, within.l.walked, 10*n, "one object of each of %d", n)

		held := newVillage(n)
		passes = held.enter(func(_ int, a *account) { leave(a, 5) })
		token := held.l.weigh().token
		require.NotEmpty(t, token)
		held.commit(token)
		recorded := map[int]bool{}
		passes += held.enter(func(i int, a *account) {
			leave(a, 5)
			if recorded[i] {
				a.acknowledged = token
			}
			recorded[i] = true
		})
		assert.True(t, held.l.rule(held.keys[0].Release, held.l.accounts[held.keys[0].Release]).Wait == "", "all have recorded it")
		passes += held.enter(func(_ int, a *account) { leave(a, 5); a.leaving = nil })
		assert.LessOrEqual(t, passes, 10*n, "five objects of each of %d", n)
		assert.LessOrEqual(t, held.l.walked, 20*n, "five objects of each of %d", n)

		moved := newVillage(n) // an object of each goes to the next
		passes = moved.enter(func(i int, a *account) {
			leave(a, 1)
			a.declares[inventory.ID{Kind: "ConfigMap", Name: moved.keys[(i+1)%n].Release + "-0"}] = "v1"
		})
		assert.LessOrEqual(t, passes, 6*n, "an object of each of %d moves", n)
		assert.LessOrEqual(t, moved.l.walked, 20*n, "an object of each of %d moves", n)

		unclear := newVillage(n) // half of them does not render
		passes = unclear.enter(func(i int, a *account) {
			if i%2 == 0 {
				leave(a, 1)
			} else {
				a.unclear, a.keeps = doesNotRender, doesNotRender
			}
		})
		assert.LessOrEqual(t, passes, 6*n, "half of %d does not render", n)
		assert.LessOrEqual(t, unclear.l.walked, 20*n, "half of %d does not render", n)
	}
}

func BenchmarkLedger(b *testing.B) {
	for _, n := range []int{400, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				v := newVillage(n)
				v.enter(func(_ int, a *account) { leave(a, 1) })
				v.enter(func(_ int, a *account) { leave(a, 1); a.leaving = nil })
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/release")
		})
	}
}
