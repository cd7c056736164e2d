package reconciler

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

// fewest is how many objects a deletion has at least that is held for its share.
const fewest = 5

// weighing is what the accounts come to together.
type weighing struct {
	free    bool   // nothing is to be deleted
	wait    string // what is not known yet; nothing is deleted before
	foresee bool   // what is not known can be found out

	acknowledged int      // what is to be deleted and was recorded as acknowledged
	open, of     int      // what is to be deleted without those acknowledged before, of how many
	listed       []string // tokens of the repository
	outlook
}

// outlook is what of a weighing matters to who waits. Without the counts: an
// unrelated commit changes them, and the status of every held release is not to be
// written anew for that.
type outlook struct {
	grant string // token by which the open deletions are acknowledged
	token string // that would acknowledge them

	waits string // for whom, the first of them
	stuck bool   // who is waited for has failed for now
	whole bool   // all that is open is held, not only what is in doubt
	doubt int    // changes when it becomes unclear, or clear, what a release declares
}

// How a release stands, in one word: it is called when that changes.
const (
	standingFree = "free"
	standingWait = "wait"
)

// standing is what a weighing means for one release.
func (l *ledger) standing(w *weighing, release string, a *account) string {
	doubted := l.doubted(a)
	switch {
	case w.free:
		return standingFree
	case w.wait != "":
		return fmt.Sprint(standingWait, w.stuck, w.waits)
	case a.condemned == 0, w.recorded(a) && a.acknowledged != w.grant, !w.whole && doubted == 0:
		return standingFree
	case len(l.sums.unread.names) > 0:
		return fmt.Sprint(standingWait, w.stuck, w.waits)
	}
	return fmt.Sprintf("grant %s token %s doubt %s", w.grant, w.token, l.doubters(release, a))
}

// recorded reports whether the repository still has the token that a release has
// recorded.
func (w *weighing) recorded(a *account) bool {
	return a.acknowledged != "" && slices.Contains(w.listed, a.acknowledged)
}

// weigh compares what is to be deleted with the policy.
//
//  1. While a release of the environment has not said what it declares, nothing
//     is deleted: it may be an object that has moved there. So it is for what
//     left with a commit, or after one, that brought a release whose declarations
//     are not all clear: see doubted.
//  2. What is open is every deletion that is not acknowledged in the status of its
//     release. While it is within the policy, even if all that is not known yet
//     were deleted too, everything goes on that nobody may have taken over.
//  3. Otherwise all accounts have to be known. A token of the repository grants
//     the deletion if it is the one of exactly the objects to hold, with those that
//     it was recorded for already. Each release then records it in its status, and
//     none deletes before all have: the first deletion makes another set, with
//     another token, and a restart must not find the rest unacknowledged.
//  4. Without a grant they are held. Deletions that were acknowledged and
//     recorded, and whose token still stands in the repository, go on.
func (l *ledger) weigh() *weighing {
	if l.weighed != nil {
		return l.weighed
	}
	w := &weighing{listed: l.rules.acknowledged}
	l.weighed = w
	switch s := &l.sums; {
	case s.leaving == 0:
		w.free = true
		return w
	case l.taking:
		w.wait = "a commit is being taken in"
		return w
	case len(s.undeclared.names) > 0:
		w.wait, w.stuck, w.waits = s.undeclared.text(), s.undeclared.stuck(), s.undeclared.first()
		return w
	case len(s.unforeseen) > 0:
		w.wait, w.foresee = "it is not known yet what the releases declare that are not part of this run", true
		w.waits = "for a render" // of whoever passes next
		return w
	}
	for token, t := range l.sums.condemned {
		if token != "" && slices.Contains(w.listed, token) {
			w.acknowledged += t.objects
		} else {
			w.open += t.objects
		}
	}
	w.of = max(l.sums.before-w.acknowledged, w.open) // what came with a growth may go as well
	w.whole = l.exceeds(w.open+l.sums.unsure, w.of)
	w.doubt = l.sums.doubt
	switch unread := &l.sums.unread; {
	case len(unread.names) > 0:
		w.waits, w.stuck = unread.first(), unread.stuck()
	case w.open > 0:
		l.grant(w)
	}
	return w
}

// grant looks for the token that acknowledges what is to be held, alone or with
// what it was recorded for before. Once some have recorded a token it holds the
// others until they have, though these alone would be few enough.
func (l *ledger) grant(w *weighing) {
	doubtful := l.doubtful(w)
	if w.acknowledged > 0 {
		for t := range l.sums.condemned {
			switch {
			case t == "" || !slices.Contains(w.listed, t):
			case l.token(w, t, true) == t:
				w.grant, w.whole = t, true
				return
			case doubtful && !w.whole && l.token(w, t, false) == t:
				w.grant = t
				return
			}
		}
	}
	if !w.whole && !doubtful {
		return
	}
	w.token = l.token(w, "", w.whole)
	if slices.Contains(w.listed, w.token) {
		w.grant = w.token
	}
}

// doubted counts the other releases that may declare what leaves this one: what
// they declare is not all known, and the content of which it is not came in with
// the commit with which that left, or later. What was unclear before has nothing to do
// with it, or one broken release would keep its environment from deleting
// anything for as long as it is broken.
func (l *ledger) doubted(a *account) (n int) {
	for since, releases := range l.sums.unclearSince {
		if since >= a.left {
			n += releases
		}
	}
	if a.unclear != "" && a.since >= a.left {
		n--
	}
	return n
}

// doubtful reports whether a deletion that is open may be of what another release
// declares.
func (l *ledger) doubtful(w *weighing) bool {
	if len(l.sums.unclearSince) == 0 {
		return false
	}
	newest := slices.Max(slices.Collect(maps.Keys(l.sums.unclearSince)))
	for token, t := range l.sums.condemned {
		if token != "" && slices.Contains(w.listed, token) {
			continue
		}
		for left := range t.left {
			if newest >= left {
				return true
			}
		}
	}
	for name := range l.sums.torn {
		l.walked++
		if a := l.accounts[name]; !w.recorded(a) && l.doubted(a) > 0 {
			return true
		}
	}
	return false
}

// doubters names the releases that may declare what leaves this one, each with
// why that is not clear.
func (l *ledger) doubters(release string, a *account) string {
	total := l.doubted(a)
	if total == 0 {
		return ""
	}
	if l.sums.unclearNames == nil {
		l.sums.unclearNames = slices.Sorted(maps.Keys(l.sums.unclear))
	}
	var names []string
	for _, name := range l.sums.unclearNames {
		l.walked++
		if b := l.accounts[name]; name != release && b.since >= a.left {
			if names = append(names, fmt.Sprintf("%s (%s)", name, b.unclear)); len(names) == fewNames {
				break
			}
		}
	}
	return some(names, total, "release", "releases")
}

func (l *ledger) exceeds(deleted, of int) bool {
	if l.rules.removed != "" {
		return deleted > 0
	}
	return deleted >= fewest && deleted*100 > l.rules.maxShare*of
}

// tokens are those that were computed last.
type tokens struct {
	of      map[held]string
	members map[string]bool // releases whose objects are in one of them
	whole   bool            // one of them is of all that is open
}

// held are deletions that have a token: those that it was recorded for, with those
// that are open, or of them only those in doubt, where the policy allows the others.
type held struct {
	recorded string
	whole    bool
}

// token names such deletions: a hash of environment, releases and objects with
// their UIDs, so that what is created again under the same name is another's to
// acknowledge. It begins with a letter, so that YAML takes none for a number.
func (l *ledger) token(w *weighing, recorded string, whole bool) string {
	key := held{recorded, whole}
	if token, computed := l.tokens.of[key]; computed {
		return token
	}
	if l.tokens.of == nil {
		l.tokens.of, l.tokens.members = map[held]string{}, map[string]bool{}
	}
	l.tokens.whole = l.tokens.whole || whole
	sum := sha256.New()
	fmt.Fprintf(sum, "environment %q\n", l.environment)
	for _, name := range slices.Sorted(maps.Keys(l.sums.condemning)) {
		l.walked++
		a := l.accounts[name]
		if w.recorded(a) && a.acknowledged != recorded || !whole && l.doubted(a) == 0 {
			continue
		}
		l.tokens.members[name] = true
		fmt.Fprintf(sum, "release %q\n", name)
		for _, id := range l.condemned(a) {
			fmt.Fprintf(sum, "%q %q\n", id.String(), a.uids[id])
		}
	}
	text := hex.EncodeToString(sum.Sum(nil))
	const length = 12
	at := max(0, strings.IndexAny(text[:len(text)-length], "abcdef"))
	l.tokens.of[key] = text[at : at+length]
	return l.tokens.of[key]
}

// condemned is what leaves a release and no other declares.
func (l *ledger) condemned(a *account) []inventory.ID {
	return slices.DeleteFunc(slices.Clone(a.leaving), func(id inventory.ID) bool { return len(l.declared[id]) > 0 })
}

// hold is what a release says whose deletions are held.
func (l *ledger) hold(w *weighing, release string, a *account) *Hold {
	var names []string
	for _, id := range l.condemned(a) {
		names = append(names, id.Display())
	}
	objects := some(names, len(names), "", "")
	h := &Hold{Reason: v1alpha1.ReasonPruneHeld, Token: w.token, Objects: len(names)}
	doubters := l.doubters(release, a)
	h.Summary = fmt.Sprintf("%d of %d objects of environment %s would be deleted", w.open, w.of, l.environment)
	if l.rules.removed != "" {
		h.Reason = v1alpha1.ReasonEnvironmentHeld
		h.Summary = fmt.Sprintf("environment %s %s: all its %d objects would be deleted", l.environment, l.rules.removed, w.open)
	}
	text := h.Summary + ", of this release " + objects
	switch {
	case l.rules.removed == "" && !w.whole:
		h.Unclear = true
		h.Summary = fmt.Sprintf("what has left releases of environment %s may have moved to others that do not render", l.environment)
		text = fmt.Sprintf("%s may have moved to %s; held until that is known or", objects, doubters)
	case l.rules.removed == "" && doubters != "":
		text += ", and may have moved to " + doubters
	}
	if !h.Unclear {
		text += "; held until"
	}
	h.Message = fmt.Sprintf("%s sluice.yaml says acknowledgements: [%s]", text, Acknowledgement(l.environment, w.token))
	return h
}

// Acknowledgement is the entry of sluice.yaml that allows a held deletion.
func Acknowledgement(environment, token string) string {
	return fmt.Sprintf("{environment: %s, prune: %s}", environment, token)
}

// fewNames is how many names a message has at most.
const fewNames = 3

// some names a few of many.
func some(names []string, total int, one, many string) string {
	named := names[:min(fewNames, len(names))]
	text := strings.Join(named, ", ")
	if total > len(named) {
		text += fmt.Sprintf(" and %d more", total-len(named))
	}
	if total == 0 {
		text = "nothing"
	}
	word := one
	if total > 1 {
		word = many
	}
	return strings.TrimSpace(word + " " + text)
}
