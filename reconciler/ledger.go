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
// Sums and indexes are kept, so that entering an account costs what it changes and
// not what the environment has: see recount.
type ledger struct {
	environment string

	mu       sync.Mutex
	rules    pruneRules
	taking   bool   // a commit is being taken in
	commits  uint64 // how many were taken in
	expected uint64 // how many accounts were expected ever
	accounts map[string]*account
	declared map[inventory.ID][]string // by which releases
	leavers  map[inventory.ID][]string // which releases it leaves
	sums     sums

	weighed *weighing // nil: to be done again
	tokens  tokens
	outlook outlook // when those who wait were called last
	walked  int     // accounts that were looked at on behalf of others

	waiting map[string]bool            // releases whose ruling may change by itself
	stirred map[string]bool            // of them, those whose objects another has given up or taken on
	movers  map[string]map[string]bool // whose objects a release takes over
	asked   map[string]map[string]bool // who wants to know about an account
	calls   map[string]bool            // who is to be passed over
	restive map[string]bool            // whose status has what there was before, to be dropped once nothing is to be deleted
}

// pruneRules are what a commit says about deletions in an environment.
type pruneRules struct {
	maxShare     int      // percent
	removed      string   // why all of the environment goes; "" when it does not
	acknowledged []string // tokens
}

func newLedger(environment string) *ledger {
	return &ledger{environment: environment, rules: pruneRules{maxShare: envrepo.DefaultPrune().MaxShare}, accounts: map[string]*account{},
		declared: map[inventory.ID][]string{}, leavers: map[inventory.ID][]string{}, sums: newSums(),
		waiting: map[string]bool{}, stirred: map[string]bool{}, movers: map[string]map[string]bool{}, asked: map[string]map[string]bool{}, calls: map[string]bool{}, restive: map[string]bool{}}
}

// take begins to take a commit in: until taken, nothing is deleted.
func (l *ledger) take(rules pruneRules) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits++
	l.rules, l.taking = rules, true
	l.weighed, l.tokens = nil, tokens{}
}

// taken ends it: the accounts of what has changed are to be given anew.
func (l *ledger) taken(changed []Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taking, l.weighed = false, nil
	for _, k := range changed {
		l.expect(k.Release, l.commits)
	}
	l.callWaiting()
}

// expect waits for the account of a release anew, over content that came in with
// this commit.
func (l *ledger) expect(release string, commit uint64) {
	l.expected++
	l.change(release, func(a *account) {
		if a.generation != 0 && !a.known {
			a.left = cmp.Or(a.left, a.since) // who knows what left with a content that was never looked at
		}
		a.generation, a.since = l.expected, commit
		a.declaredKnown, a.known, a.stalled, a.unclear = false, false, false, ""
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
		a := l.change(k.Release, func(a *account) { a.outside = false })
		l.expect(k.Release, a.since)
	}
	l.callWaiting()
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
	l.callWaiting()
}

// drop closes the account of a release that is gone.
func (l *ledger) drop(release string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[release]
	if a == nil {
		return
	}
	l.forgetClaims(release, a)
	l.forgetMoves(release, a)
	l.change(release, func(a *account) { *a = account{declaredKnown: true, known: true} })
	delete(l.accounts, release)
	delete(l.waiting, release)
	delete(l.stirred, release)
	delete(l.restive, release)
	l.callAskers(release)
	l.callMovers(release)
	delete(l.movers, release)
	delete(l.calls, release)
	l.callWaiting()
}

// change changes an account with all sums.
func (l *ledger) change(release string, do func(*account)) *account {
	before := account{declaredKnown: true, known: true} // counts for nothing
	a := l.accounts[release]
	if a == nil {
		a = &account{}
		l.accounts[release] = a
	} else {
		before = *a
	}
	do(a)
	l.recount(release, &before, a)
	return a
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
		now.follow(a)
		*a = now
	})
	if len(l.asked[release]) > 0 && (!before.declaredKnown || before.keeps != a.keeps || !alike(before.declares, a.declares)) {
		l.callAskers(release)
	}
	l.forgetClaims(release, &before)
	for id, owner := range before.claims {
		if _, still := a.claims[id]; !still {
			l.calls[owner] = true // it has been taken over: its old owner may forget it
		}
	}
	l.forgetMoves(release, &before)
	r := l.rule(release, a)
	l.callWaiting()
	return r
}

// declare takes in what a release declares, while nothing else is known of it.
func (l *ledger) declare(release string, generation uint64, declares inventory.Set, unclear string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if generation != l.generationOf(release) {
		return
	}
	l.change(release, func(a *account) {
		now := account{declares: declares, unclear: unclear}
		now.follow(a)
		a.declares, a.unclear, a.declaredKnown = now.declares, now.unclear, true
	})
	l.callAskers(release)
	l.callWaiting()
}

// ended says whether the next pass over a release would come to the same.
func (l *ledger) ended(release string, generation uint64, stalled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.accounts[release]; a != nil && a.generation == generation && a.stalled != stalled {
		l.change(release, func(a *account) { a.stalled = stalled })
		l.callAskers(release)
		l.callMovers(release)
		l.callWaiting()
	}
}

// unforeseen are the releases outside of this run of which it is not known what
// they declare.
func (l *ledger) unforeseen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.sums.unforeseen))
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

// callMovers calls those whose objects a release is taking over.
func (l *ledger) callMovers(release string) { maps.Copy(l.calls, l.movers[release]) }

// forgetClaims takes back the questions that an account has asked.
func (l *ledger) forgetClaims(release string, a *account) {
	for _, owner := range a.claims {
		leaveSet(l.asked, owner, release)
	}
}

// forgetMoves takes back to whom the objects of an account move.
func (l *ledger) forgetMoves(release string, a *account) {
	for _, to := range a.moving {
		leaveSet(l.movers, to, release)
	}
}

func joinSet(sets map[string]map[string]bool, of, name string) {
	if sets[of] == nil {
		sets[of] = map[string]bool{}
	}
	sets[of][name] = true
}

func leaveSet(sets map[string]map[string]bool, of, name string) {
	if delete(sets[of], name); len(sets[of]) == 0 {
		delete(sets, of)
	}
}

// rests reports whether nothing of the environment is to be deleted, and all is known.
func (l *ledger) rests() bool { return l.sums.leaving == 0 && l.sums.unsure == 0 && !l.taking }

// callWaiting calls those whose ruling has changed. That something is not known
// for a moment is no news to who is held: whatever it comes to is. As long as the
// outlook is the same for all, only who has been stirred can have another one.
func (l *ledger) callWaiting() {
	if len(l.restive) > 0 && l.rests() {
		maps.Copy(l.calls, l.restive)
		clear(l.restive)
	}
	if len(l.waiting) == 0 {
		clear(l.stirred)
		return
	}
	w := l.weigh()
	if w.wait != "" && !w.stuck && !w.foresee {
		l.outlook = outlook{doubt: -1} // which none has: who rules now is to be called, whatever comes
		return
	}
	among := l.stirred
	if w.outlook != l.outlook {
		among, l.outlook = l.waiting, w.outlook
	}
	for name := range among {
		l.walked++
		a := l.accounts[name]
		if a == nil || !a.known {
			continue
		}
		if now := l.standing(w, name, a); now != a.standing || l.stirred[name] {
			a.standing = now
			l.calls[name] = true
		}
	}
	clear(l.stirred)
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
