package reconciler

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// ledger is what the releases of an environment want to do to each other's
// objects and to the environment as a whole. A release knows only its own; two
// questions need all of them:
//
//   - How much of the environment would be deleted? More than the policy's share
//     is held until the repository acknowledges exactly that deletion.
//   - Is an object that a release no longer declares another's by now? Then it is
//     handed over, not deleted.
//
// Each pass enters the account of its release and gets a Ruling. An account is
// known from the first pass over the content that a commit wants until the next
// commit that changes it, so nothing is deleted on half the accounts. What a pass
// says that began before that commit is not taken in: see generation. The ledger
// is memory only; what must survive a restart is in the Releases: see grants in
// weigh.
//
// Nothing is walked while nothing is to be deleted: sums are kept.
type ledger struct {
	environment string

	mu       sync.Mutex
	rules    pruneRules
	taking   bool   // a commit is being taken in
	expected uint64 // how many accounts were expected ever
	accounts map[string]*account
	declared map[inventory.ID]int // by how many accounts
	weighed  *weighing            // nil: to be done again

	undeclared, unread      int // accounts of which not that much is known
	before, leaving, unsure int // unsure: objects of the accounts that are not read

	waiting map[string]bool            // releases whose ruling may change by itself
	asked   map[string]map[string]bool // who wants to know about an account
	calls   map[string]bool            // who is to be passed over
}

// pruneRules are what a commit says about deletions in an environment.
type pruneRules struct {
	maxShare     int      // percent
	removed      string   // why all of the environment goes; "" when it does not
	acknowledged []string // tokens
}

func newLedger(environment string) *ledger {
	return &ledger{environment: environment, rules: pruneRules{maxShare: envrepo.DefaultPrune().MaxShare}, accounts: map[string]*account{}, declared: map[inventory.ID]int{},
		waiting: map[string]bool{}, asked: map[string]map[string]bool{}, calls: map[string]bool{}}
}

// take begins to take a commit in: until taken, nothing is deleted.
func (l *ledger) take(rules pruneRules) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rules, l.taking, l.weighed = rules, true, nil
}

// taken ends it: the accounts of what has changed are to be given anew.
func (l *ledger) taken(changed []Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taking, l.weighed = false, nil
	for _, k := range changed {
		l.expect(k.Release)
	}
	l.callWaiting()
}

// expect waits for the account of a release anew.
func (l *ledger) expect(release string) {
	l.expected++
	l.change(release, func(a *account) {
		a.generation = l.expected
		a.declaredKnown, a.known, a.stalled = false, false, false
		a.declares, a.leaving, a.acknowledged = nil, nil, ""
	})
}

// generation is what a pass has to enter its account with. It is asked for
// together with what is wanted of the release: a pass over the content before
// must not speak for the one that came in meanwhile. No two releases, nor two of
// the same name, ever have the same but zero, of which nothing is expected.
func (l *ledger) generation(release string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generationOf(release)
}

func (l *ledger) generationOf(release string) uint64 {
	if a := l.accounts[release]; a != nil {
		return a.generation
	}
	return 0
}

// scope has only these releases count, which are expected anew.
func (l *ledger) scope(keys []Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.accounts {
		l.change(name, func(a *account) { a.outside = true })
	}
	for _, k := range keys {
		l.change(k.Release, func(a *account) { a.outside = false })
		l.expect(k.Release)
	}
}

// found is a release that the cluster has, with the number of its objects.
func (l *ledger) found(release string, objects, before int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change(release, func(a *account) {
		if objects > a.objects {
			a.objects, a.before = objects, before
		}
	})
}

// drop closes the account of a release that is gone.
func (l *ledger) drop(release string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[release]; a != nil {
		l.count(a, -1)
		delete(l.accounts, release)
		delete(l.waiting, release)
		l.weighed = nil
		l.callAskers(release)
		l.callWaiting()
	}
}

// change changes an account with all sums.
func (l *ledger) change(release string, do func(*account)) *account {
	a := l.accounts[release]
	if a == nil {
		a = &account{}
		l.accounts[release] = a
	} else {
		l.count(a, -1)
	}
	do(a)
	l.count(a, +1)
	if len(a.leaving) > 0 || l.leaving > 0 {
		l.weighed = nil
	}
	return a
}

// count adds an account to the sums, or takes it out of them.
func (l *ledger) count(a *account, sign int) {
	l.before += sign * a.before
	for _, id := range a.declares {
		if l.declared[id] += sign; l.declared[id] == 0 {
			delete(l.declared, id)
		}
	}
	if a.outside {
		return
	}
	l.leaving += sign * len(a.leaving)
	if !a.declaredKnown {
		l.undeclared += sign
	}
	if !a.known {
		l.unread += sign
		l.unsure += sign * a.objects
	}
}

// enter takes in the account of a release and rules. That of an older generation
// changes nothing, and nothing may be deleted for it, nor taken over.
func (l *ledger) enter(release string, generation uint64, now account) Ruling {
	l.mu.Lock()
	defer l.mu.Unlock()
	if generation != l.generationOf(release) {
		return superseded(now)
	}
	now.generation, now.declaredKnown, now.known = generation, true, true
	var before account
	a := l.change(release, func(a *account) {
		before = *a
		now.outside, now.stalled = a.outside, a.stalled
		*a = now
	})
	if len(l.asked[release]) > 0 && (!before.declaredKnown || before.keeps != a.keeps || !alike(before.declares, a.declares)) {
		l.callAskers(release)
	}
	for id, owner := range before.claims {
		if _, still := a.claims[id]; !still {
			l.calls[owner] = true // it has been taken over: its old owner may forget it
		}
	}
	r := l.rule(release, a)
	l.callWaiting()
	return r
}

// declare takes in what a release declares, while nothing else is known of it.
func (l *ledger) declare(release string, generation uint64, declares []inventory.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if generation != l.generationOf(release) {
		return
	}
	l.change(release, func(a *account) { a.declares, a.declaredKnown = declares, true })
	l.callAskers(release)
	l.callWaiting()
}

// ended says whether the next pass over a release would come to the same.
func (l *ledger) ended(release string, generation uint64, stalled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[release]; a != nil && a.generation == generation && a.stalled != stalled {
		a.stalled = stalled
		l.weighed = nil
		l.callAskers(release)
		for name, other := range l.accounts {
			if other.awaits && name != release {
				l.calls[name] = true
			}
		}
	}
}

// called are the releases that are to be passed over because of what has become
// known.
func (l *ledger) called() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(l.calls))
	clear(l.calls)
	return names
}

func (l *ledger) callAskers(release string) {
	maps.Copy(l.calls, l.asked[release])
	delete(l.asked, release)
}

// callWaiting calls those whose ruling has changed. That something is not known
// for a moment is no news to who is held: whatever it comes to is.
func (l *ledger) callWaiting() {
	if len(l.waiting) == 0 {
		return
	}
	w := l.weigh()
	if w.wait != "" && !w.stuck {
		return
	}
	for name := range l.waiting {
		if a := l.accounts[name]; a != nil && a.known && w.standing(a) != a.standing {
			a.standing = w.standing(a)
			l.calls[name] = true
		}
	}
}

// called are the releases that the ledger wants passed over.
func (env *environment) called() []Key {
	names := env.ledger.called()
	if len(names) == 0 {
		return nil
	}
	env.mu.Lock()
	defer env.mu.Unlock()
	var keys []Key
	for _, name := range names {
		if r := env.releases[name]; r != nil && r.inScopeAtAll() {
			r.hurry()
			keys = append(keys, r.key)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(a.Release, b.Release) })
	return keys
}
