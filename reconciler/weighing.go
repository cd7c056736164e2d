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
