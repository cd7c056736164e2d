package reconciler

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// fewest is how many objects a deletion has at least that is held for its share.
const fewest = 5

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

// account is what one release declares and what it would delete.
type account struct {
	generation    uint64 // tells apart the contents that an account was expected of
	declaredKnown bool   // declares is that of the wanted content
	known         bool   // and so are the others
	outside       bool   // the engine has not got the release in its hands
	stalled       bool   // its last pass has ended so that another one changes nothing

	declares     []inventory.ID
	leaving      []inventory.ID             // sorted: ours in the cluster, not declared, not protected
	uids         map[inventory.ID]types.UID // of what is leaving
	objects      int                        // in the inventory
	before       int                        // of them, before the release began to grow
	keeps        string                     // why it does not give away what it no longer declares; "" when it does
	acknowledged string                     // token recorded in its status for this content
	claims       map[inventory.ID]string    // declared objects that carry another release's label
	relabelled   map[inventory.ID]bool      // of them, ours by the inventory, with the label of a release without a Release
	awaits       bool                       // the last ruling depends on what another does
	standing     string                     // at the last ruling
}

// Ruling is what a release may do to objects that are, or were, another's, and
// whether it may delete its own. The zero one allows all deletions and no
// take-over.
type Ruling struct {
	// Wait says what is not known yet; nothing is deleted before. Stuck says that
	// it will not be known without a person or a newer commit.
	Wait  string
	Stuck bool
	// Held says why nothing is deleted before the repository acknowledges it.
	Held *Hold
	// Acknowledge is the token by which it was acknowledged: recorded before the
	// first deletion.
	Acknowledge string
	// Moving names the release that has an object now, for those that leave ours.
	Moving map[inventory.ID]string
	// Claims says of declared objects that carry another release's label whether
	// they may be taken over.
	Claims map[inventory.ID]Claim

	rest       bool // nothing of the environment is to be deleted
	superseded bool // the pass is over content that is not wanted any more
}

// blocks reports whether nothing may be deleted for now.
func (r Ruling) blocks() bool { return r.Wait != "" || r.Held != nil || r.Acknowledge != "" }

// Hold is a deletion that waits for an acknowledgement.
type Hold struct {
	Reason  string // one of v1alpha1's
	Message string
	Token   string
}

// Claim is whether an object of another release may be taken over.
type Claim struct {
	Granted bool
	Pending bool   // it will be known soon
	Why     string // why not, or what is awaited
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

// superseded is the ruling for an account of an older generation.
func superseded(now account) Ruling {
	const why = "a newer commit has come in"
	r := Ruling{Wait: why, superseded: true, Claims: make(map[inventory.ID]Claim, len(now.claims))}
	for id := range now.claims {
		r.Claims[id] = Claim{Pending: true, Why: "is looked at again, as " + why}
	}
	return r
}

// alike reports whether two lists have the same objects, in whatever order.
func alike(a, b []inventory.ID) bool {
	if len(a) != len(b) {
		return false
	}
	has := make(map[inventory.ID]bool, len(a))
	for _, id := range a {
		has[id] = true
	}
	return !slices.ContainsFunc(b, func(id inventory.ID) bool { return !has[id] })
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

// rule is the ruling for one release.
func (l *ledger) rule(release string, a *account) Ruling {
	r := Ruling{Claims: l.claims(release, a), rest: l.leaving == 0 && l.unsure == 0 && !l.taking}
	a.standing, a.awaits = "", false
	delete(l.waiting, release)
	if len(a.leaving) == 0 {
		return r
	}
	w := l.weigh()
	r.Moving = l.moving(a)
	for _, to := range r.Moving {
		if b := l.accounts[to]; b != nil && b.stalled {
			r.Stuck = true
		}
	}
	a.standing = w.standing(a)
	switch {
	case a.standing == standingFree:
	case w.wait != "":
		r.Wait, r.Stuck = w.wait, w.stuck
	case w.grant != "" && a.acknowledged == w.grant:
		r.Wait = "not every release has taken in yet that the deletion is acknowledged"
	case w.grant != "":
		r.Acknowledge = w.grant
	default:
		r.Held = l.hold(w, release)
	}
	a.awaits = r.Wait != "" || len(r.Moving) > 0
	if a.awaits || a.standing != standingFree {
		l.waiting[release] = true
	}
	return r
}

// moving are the leaving objects that another release declares.
func (l *ledger) moving(a *account) map[inventory.ID]string {
	moving := map[inventory.ID]string{}
	for _, id := range a.leaving {
		if l.declared[id] == 0 {
			continue
		}
		for name, other := range l.accounts {
			if slices.Contains(other.declares, id) && (moving[id] == "" || name < moving[id]) {
				moving[id] = name
			}
		}
	}
	return moving
}

// claims says which objects may be taken over: those that their owner was
// asked about and does not declare.
func (l *ledger) claims(release string, a *account) map[inventory.ID]Claim {
	if len(a.claims) == 0 {
		return nil
	}
	claims := make(map[inventory.ID]Claim, len(a.claims))
	for id, owner := range a.claims {
		if l.asked[owner] == nil {
			l.asked[owner] = map[string]bool{}
		}
		l.asked[owner][release] = true
		claims[id] = l.claim(l.accounts[owner], id)
		if l.accounts[owner] == nil && a.relabelled[id] {
			claims[id] = Claim{Granted: !l.taking, Pending: l.taking} // drift: somebody wrote a name that is nobody's
		}
	}
	return claims
}

func (l *ledger) claim(owner *account, id inventory.ID) Claim {
	switch {
	case owner == nil:
		return Claim{} // a label without a release behind it
	case owner.outside:
		return Claim{Why: "is not part of this run"}
	case l.taking || !owner.declaredKnown && !owner.stalled:
		return Claim{Pending: true, Why: "has not been looked at yet"}
	case !owner.declaredKnown:
		return Claim{Why: "has failed"}
	case owner.keeps != "":
		return Claim{Why: owner.keeps}
	case slices.Contains(owner.declares, id):
		return Claim{}
	}
	return Claim{Granted: true}
}

// weighing is what the accounts come to together.
type weighing struct {
	free  bool // all may be deleted that is to be deleted
	wait  string
	stuck bool
	grant string // token by which the open deletions are acknowledged
	token string // that would acknowledge them

	condemned map[string][]inventory.ID // by release, without what moves
	open      int                       // of them, without those acknowledged before
	of        int
	listed    []string // tokens of the repository
}

// How a release stands, in one word: it is called when that changes.
const (
	standingFree = "free"
	standingWait = "wait"
)

// standing is what a weighing means for one release.
func (w *weighing) standing(a *account) string {
	switch {
	case w.free:
		return standingFree
	case w.wait != "":
		return fmt.Sprint(standingWait, w.stuck, w.wait)
	case slices.Contains(w.listed, a.acknowledged) && a.acknowledged != w.grant:
		return standingFree
	}
	// Without the counts: an unrelated commit changes them, and the status of every
	// held release is not to be written anew for that.
	return fmt.Sprintf("grant %s token %s", w.grant, w.token)
}

// weigh compares what is to be deleted with the policy.
//
//  1. While a release of the environment has not said what it declares, nothing
//     is deleted: it may be an object that has moved there.
//  2. What is open is every deletion that is not acknowledged in the status of its
//     release. While it is within the policy, even if all that is not known yet
//     were deleted too, everything goes on.
//  3. Otherwise all accounts have to be known. A token of the repository grants
//     the deletion if it is the one of exactly the open objects, with those that
//     it was recorded for already. Each release then records it in its status, and
//     none deletes before all have: the first deletion makes another set, with
//     another token, and a restart must not find the rest unacknowledged.
//  4. Without a grant what is open is held. Deletions that were acknowledged and
//     recorded, and whose token still stands in the repository, go on.
func (l *ledger) weigh() *weighing {
	if l.weighed != nil {
		return l.weighed
	}
	w := &weighing{listed: l.rules.acknowledged}
	l.weighed = w
	switch {
	case l.leaving == 0:
		w.free = true
		return w
	case l.taking:
		w.wait = "a commit is being taken in"
		return w
	case l.undeclared > 0:
		w.wait, w.stuck = l.awaited(func(a *account) bool { return a.declaredKnown })
		return w
	}
	recorded := l.condemn(w)
	switch {
	case w.open+l.unsure == 0:
		w.free = true
	case l.unread == 0 && l.granted(w, recorded):
	case !l.exceeds(w.open+l.unsure, w.of):
		w.free = true
	case l.unread > 0:
		w.wait, w.stuck = l.awaited(func(a *account) bool { return a.known })
	}
	return w
}

// granted looks for the token that acknowledges what is open, alone or with what
// it was recorded for before.
func (l *ledger) granted(w *weighing, recorded map[string]bool) bool {
	w.token = l.token(w, "")
	if slices.Contains(w.listed, w.token) {
		w.grant = w.token
	}
	for t := range recorded {
		if l.token(w, t) == t {
			w.grant = t
		}
	}
	return w.grant != ""
}

// condemn sums up what is to be deleted, and collects the tokens by which it is
// acknowledged already.
func (l *ledger) condemn(w *weighing) (recorded map[string]bool) {
	w.condemned, w.of, recorded = map[string][]inventory.ID{}, l.before, map[string]bool{}
	for name, a := range l.accounts {
		if a.outside || len(a.leaving) == 0 {
			continue
		}
		ids := slices.DeleteFunc(slices.Clone(a.leaving), func(id inventory.ID) bool { return l.declared[id] > 0 })
		if len(ids) == 0 {
			continue
		}
		w.condemned[name] = ids
		if slices.Contains(w.listed, a.acknowledged) {
			recorded[a.acknowledged] = true
			w.of -= len(ids)
		} else {
			w.open += len(ids)
		}
	}
	w.of = max(w.of, w.open) // what came with a growth may go as well
	return recorded
}

func (l *ledger) exceeds(deleted, of int) bool {
	if l.rules.removed != "" {
		return deleted > 0
	}
	return deleted >= fewest && deleted*100 > l.rules.maxShare*of
}

// token names the open deletions together with those that were recorded with
// it: a hash of environment, releases and objects with their UIDs, so that what is
// created again under the same name is another's to acknowledge. It begins with a letter, so
// that YAML takes none for a number.
func (l *ledger) token(w *weighing, recorded string) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "environment %q\n", l.environment)
	for _, name := range slices.Sorted(maps.Keys(w.condemned)) {
		with := l.accounts[name].acknowledged
		if slices.Contains(w.listed, with) && with != recorded {
			continue
		}
		fmt.Fprintf(sum, "release %q\n", name)
		for _, id := range w.condemned[name] {
			fmt.Fprintf(sum, "%q %q\n", id.String(), l.accounts[name].uids[id])
		}
	}
	text := hex.EncodeToString(sum.Sum(nil))
	const length = 12
	at := max(0, strings.IndexAny(text[:len(text)-length], "abcdef"))
	return text[at : at+length]
}

// awaited names the releases that keep the others from deleting.
func (l *ledger) awaited(done func(*account) bool) (text string, stuck bool) {
	var names []string
	stuck = true
	for name, a := range l.accounts {
		if !a.outside && !done(a) {
			names = append(names, name)
			stuck = stuck && a.stalled
		}
	}
	slices.Sort(names)
	if stuck {
		return "it is not known what " + some(names, "release", "releases") + " would declare or delete, and that has failed for now", true
	}
	return "not every release of the environment has been looked at yet", false
}

// hold is what a release says whose deletions are held.
func (l *ledger) hold(w *weighing, release string) *Hold {
	var names []string
	for _, id := range w.condemned[release] {
		names = append(names, id.Display())
	}
	h := &Hold{Reason: v1alpha1.ReasonPruneHeld, Token: w.token}
	text := fmt.Sprintf("%d of %d objects of environment %s would be deleted", w.open, w.of, l.environment)
	if l.rules.removed != "" {
		h.Reason = v1alpha1.ReasonEnvironmentHeld
		text = fmt.Sprintf("environment %s %s: all its %d objects would be deleted", l.environment, l.rules.removed, w.open)
	}
	h.Message = fmt.Sprintf("%s, of this release %s; held until sluice.yaml says acknowledgements: [%s]", text, some(names, "", ""), Acknowledgement(l.environment, w.token))
	return h
}

// Acknowledgement is the entry of sluice.yaml that allows a held deletion.
func Acknowledgement(environment, token string) string {
	return fmt.Sprintf("{environment: %s, prune: %s}", environment, token)
}

// some names a few of many.
func some(names []string, one, many string) string {
	const few = 3
	text := strings.Join(names[:min(few, len(names))], ", ")
	if len(names) > few {
		text += fmt.Sprintf(" and %d more", len(names)-few)
	}
	if len(names) == 0 {
		text = "nothing"
	}
	word := one
	if len(names) > 1 {
		word = many
	}
	return strings.TrimSpace(word + " " + text)
}

// accountOf is what the input says about a release: pure.
func accountOf(in *Input) account {
	rendered := in.renderedSet()
	a := account{objects: len(in.Inventory), before: objectsBefore(in.Last, in.Inventory), declares: slices.Collect(maps.Keys(rendered))}
	stay := func(why string) account {
		a.keeps = why
		if len(a.declares) == 0 {
			a.declares = slices.Collect(maps.Keys(in.Inventory))
		}
		return a
	}
	switch {
	case in.Refusal != nil:
		return stay("is left alone: " + in.Refusal.Message)
	case in.Paused != "":
		return stay("is " + in.Paused)
	case foreignRelease(in):
		return stay("belongs to another project or repository")
	case !in.Gone && len(rendered) == 0:
		return stay("renders no object")
	case !in.Namespace.Exists:
		return a
	}
	a.leaving = leavingOf(in, rendered)
	a.uids = make(map[inventory.ID]types.UID, len(a.leaving))
	for _, id := range a.leaving {
		a.uids[id] = in.Live[id].GetUID()
	}
	a.claims = claimsOf(in, rendered)
	if p := in.status().Prune; p != nil && p.Hash == in.Hash {
		a.acknowledged = p.Acknowledged
	}
	return a
}

// leavingOf lists what would be deleted sooner or later: in the inventory and in
// the cluster, not declared, and not protected.
func leavingOf(in *Input, rendered inventory.Set) []inventory.ID {
	gone := in.Inventory.Minus(rendered)
	if len(gone) == 0 {
		return nil
	}
	d := &decision{in: in}
	var leaving []inventory.ID
	for _, id := range gone.Sorted() {
		if live := in.Live[id]; live != nil && d.protected(live) == "" {
			leaving = append(leaving, id)
		}
	}
	return leaving
}

// claimsOf lists the declared objects that carry the label of another release of
// the environment.
func claimsOf(in *Input, rendered inventory.Set) map[inventory.ID]string {
	var claims map[inventory.ID]string
	for id := range rendered {
		live := in.Live[id]
		if live == nil {
			continue
		}
		other, owned := owner(live)
		if !owned || other == in.key() || other.Environment != in.key().Environment {
			continue
		}
		if claims == nil {
			claims = map[inventory.ID]string{}
		}
		claims[id] = other.Release
	}
	return claims
}

// renderedSet is the set of all rendered objects.
func (in *Input) renderedSet() inventory.Set {
	if in.Rendered == nil || in.Gone {
		return inventory.Set{}
	}
	set := inventory.Of(in.Rendered.Shared...)
	for _, t := range in.Rendered.Tags {
		maps.Copy(set, inventory.Of(t.Objects...))
	}
	maps.Copy(set, in.brokenObjects()) // which stay as they are
	return set
}

// account enters the release into its environment's ledger; it is an error when
// a newer commit wants another account.
func (p *pass) account() error {
	a := accountOf(p.in)
	a.relabelled = p.relabelled(a.claims)
	p.in.Ruling = p.env.ledger.enter(p.in.Release.Name, p.want.generation, a)
	if p.in.Ruling.superseded {
		return errSuperseded
	}
	return nil
}

// accountFailed enters what a pass has found out that could not read everything.
// A release that does not render keeps what it has and deletes nothing.
func (p *pass) accountFailed(renders bool) {
	name, generation := p.in.Release.Name, p.want.generation
	switch {
	case !renders && p.in.Inventory != nil:
		p.env.ledger.enter(name, generation, account{objects: len(p.in.Inventory), before: objectsBefore(p.in.Last, p.in.Inventory), declares: slices.Collect(maps.Keys(p.in.Inventory)), keeps: "does not render"})
	case p.in.Rendered != nil:
		p.env.ledger.declare(name, generation, slices.Collect(maps.Keys(p.in.renderedSet())))
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
