package reconciler

import (
	"maps"
	"slices"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// sums are what the accounts of an environment add up to.
type sums struct {
	before, leaving int
	unsure          int             // objects of the accounts that are not read
	undeclared      absentees       // of whom it is not known what they declare
	unread          absentees       // of whom not all is known
	unforeseen      map[string]bool // releases outside of the run of whom it is not known what they declare

	condemned  map[string]*tally // what is to be deleted, by the token that its release has recorded
	condemning map[string]bool   // releases that have any
	torn       map[string]bool   // of them, those of which something is unclear themselves

	unclear      map[string]bool // releases that may declare more than is known
	unclearNames []string        // they, sorted; nil: to be done again
	unclearSince map[uint64]int  // how many of them, by the commit that their content came in with
	doubt        int             // how often that has changed
}

// tally sums up what several releases delete.
type tally struct {
	releases, objects int
	left              map[uint64]int // releases by the commit since which something leaves, without those that are torn
}

func newSums() sums {
	return sums{undeclared: absentees{names: map[string]bool{}}, unread: absentees{names: map[string]bool{}}, unforeseen: map[string]bool{},
		condemned: map[string]*tally{}, condemning: map[string]bool{}, torn: map[string]bool{}, unclear: map[string]bool{}, unclearSince: map[uint64]int{}}
}

// recount takes an account out of the sums and indexes as it was, and puts it in as
// it is: what is changed by that, and nothing else, is looked at.
func (l *ledger) recount(release string, before, a *account) {
	l.sums.add(release, before, -1)
	if !before.outside {
		for _, id := range before.leaving {
			unindex(l.leavers, id, release)
		}
	}
	others := l.redeclare(release, before.declares, a.declares)
	a.condemned = 0
	if !a.outside {
		for _, id := range a.leaving {
			l.leavers[id] = append(l.leavers[id], release)
			if len(l.declared[id]) == 0 {
				a.condemned++
			}
		}
	}
	l.sums.add(release, a, +1)

	if before.unclear != a.unclear || a.unclear != "" && before.since != a.since {
		l.sums.unclearNames = nil
		l.sums.doubt++
		l.tokens = tokens{}
	}
	if before.condemned != a.condemned && l.waiting[release] {
		l.stirred[release] = true
	}
	for _, name := range others {
		l.retoken(name, l.accounts[name])
	}
	switch {
	case before.condemned != a.condemned, len(a.leaving) > 0 && !alike(before.declares, a.declares), before.outside != a.outside, before.left != a.left, !slices.Equal(before.leaving, a.leaving), !maps.Equal(before.uids, a.uids):
		l.retoken(release, a)
	case a.condemned > 0 && before.acknowledged != a.acknowledged:
		l.reacknowledged(before.acknowledged, a.acknowledged)
	}
	if len(a.leaving) > 0 || len(before.leaving) > 0 || l.sums.leaving > 0 {
		l.weighed = nil
	}
}

// redeclare takes in what a release declares now. Who leaves some of that deletes so
// much less, or more: these are returned.
func (l *ledger) redeclare(release string, before, now inventory.Set) (others []string) {
	for id := range before {
		if _, still := now[id]; !still {
			if unindex(l.declared, id, release); len(l.declared[id]) == 0 {
				others = append(others, l.recondemn(id, +1)...)
			}
		}
	}
	for id := range now {
		if _, already := before[id]; !already {
			if l.declared[id] = append(l.declared[id], release); len(l.declared[id]) == 1 {
				others = append(others, l.recondemn(id, -1)...)
			}
		}
	}
	return others
}

// recondemn counts an object that releases leave as one that is to be deleted, or
// not any more.
func (l *ledger) recondemn(id inventory.ID, sign int) (leavers []string) {
	for _, name := range l.leavers[id] {
		l.walked++
		a := l.accounts[name]
		l.sums.condemn(name, a, -1)
		a.condemned += sign
		l.sums.condemn(name, a, +1)
		if l.waiting[name] {
			l.stirred[name] = true
		}
	}
	return l.leavers[id]
}

// retoken forgets the tokens if another deletion of this release makes others of
// them.
func (l *ledger) retoken(release string, a *account) {
	if l.tokens.members[release] || a.condemned > 0 && (l.tokens.whole || l.doubted(a) > 0) {
		l.tokens = tokens{}
	}
}

// reacknowledged forgets the tokens that a release is in now and was not before,
// or the other way round. Its record does not change the token that it has
// recorded: each of many does so.
func (l *ledger) reacknowledged(before, now string) {
	open := func(token string) bool { return token == "" || !slices.Contains(l.rules.acknowledged, token) }
	for key := range l.tokens.of {
		if (open(before) || before == key.recorded) != (open(now) || now == key.recorded) {
			delete(l.tokens.of, key)
		}
	}
}

// add adds an account, or takes it out.
func (s *sums) add(release string, a *account, sign int) {
	s.before += sign * a.before
	if a.unclear != "" {
		mark(s.unclear, release, sign)
		tick(s.unclearSince, a.since, sign)
	}
	if a.outside {
		if !a.declaredKnown && a.generation != 0 {
			mark(s.unforeseen, release, sign)
		}
		return
	}
	s.leaving += sign * len(a.leaving)
	s.condemn(release, a, sign)
	if !a.declaredKnown {
		s.undeclared.add(release, a, sign)
	}
	if !a.known {
		s.unread.add(release, a, sign)
		s.unsure += sign * a.objects
	}
}

// condemn adds what an account is to delete.
func (s *sums) condemn(release string, a *account, sign int) {
	if a.condemned == 0 {
		return
	}
	t := s.condemned[a.acknowledged]
	if t == nil {
		t = &tally{left: map[uint64]int{}}
		s.condemned[a.acknowledged] = t
	}
	t.releases += sign
	t.objects += sign * a.condemned
	mark(s.condemning, release, sign)
	if a.unclear != "" {
		mark(s.torn, release, sign)
	} else {
		tick(t.left, a.left, sign)
	}
	if t.releases == 0 {
		delete(s.condemned, a.acknowledged)
	}
}

// absentees are releases of which something is not known, and how many of them
// have not failed for now.
type absentees struct {
	names  map[string]bool
	active int
	sorted []string // nil: to be done again
}

func (b *absentees) add(release string, a *account, sign int) {
	mark(b.names, release, sign)
	if !a.stalled {
		b.active += sign
	}
	b.sorted = nil
}

// stuck reports whether it will not be known without a person or a newer commit.
func (b *absentees) stuck() bool { return b.active == 0 }

// text says who keeps the others from deleting.
func (b *absentees) text() string {
	if !b.stuck() {
		return "not every release of the environment has been looked at yet"
	}
	return "it is not known what " + some(b.list(), len(b.names), "release", "releases") + " would declare or delete, and that has failed for now"
}

// first are the names that the text has.
func (b *absentees) first() string {
	if !b.stuck() {
		return ""
	}
	return some(b.list(), min(len(b.names), fewNames), "", "")
}

func (b *absentees) list() []string {
	if b.sorted == nil {
		b.sorted = slices.Sorted(maps.Keys(b.names))
	}
	return b.sorted
}

// mark puts a name in a set, or takes it out.
func mark(set map[string]bool, name string, sign int) {
	if sign > 0 {
		set[name] = true
	} else {
		delete(set, name)
	}
}

// tick counts up or down.
func tick(counts map[uint64]int, at uint64, sign int) {
	if counts[at] += sign; counts[at] == 0 {
		delete(counts, at)
	}
}

// unindex takes a release out of an index.
func unindex(index map[inventory.ID][]string, id inventory.ID, release string) {
	left := slices.DeleteFunc(index[id], func(name string) bool { return name == release })
	if len(left) == 0 {
		delete(index, id)
	} else {
		index[id] = left
	}
}
