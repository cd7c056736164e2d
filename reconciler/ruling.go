package reconciler

import (
	"slices"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

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
	// Untaken says why such a release will not take what it declares.
	Untaken map[string]string
	// Claims says of declared objects that carry another release's label whether
	// they may be taken over.
	Claims map[inventory.ID]Claim

	foresee    bool // what the releases outside of this run declare is to be found out first
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
	Unclear bool   // it ends by itself when every release renders
	Summary string // of the message, what is the same for all releases
	Objects int    // of this release
}

// Claim is whether an object of another release may be taken over.
type Claim struct {
	Granted bool
	Pending bool   // it will be known soon
	Why     string // why not, or what is awaited
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

// rule is the ruling for one release.
func (l *ledger) rule(release string, a *account) Ruling {
	r := Ruling{Claims: l.claims(release, a), rest: l.rests()}
	a.standing, a.moving = "", nil
	if delete(l.restive, release); a.grown && !r.rest {
		l.restive[release] = true
	}
	delete(l.waiting, release)
	delete(l.stirred, release)
	if len(a.leaving) == 0 {
		return r
	}
	w := l.weigh()
	r.Moving = l.moving(a)
	a.moving = r.Moving
	for _, to := range r.Moving {
		joinSet(l.movers, to, release)
		b := l.accounts[to]
		r.Stuck = r.Stuck || b.stalled || b.outside
		if b.outside {
			r.Untaken = map[string]string{to: notInThisRun}
		}
	}
	a.standing = l.standing(w, release, a)
	switch {
	case a.standing == standingFree:
	case w.wait != "":
		r.Wait, r.Stuck, r.foresee = w.wait, w.stuck, w.foresee
	case len(l.sums.unread.names) > 0:
		r.Wait, r.Stuck = l.sums.unread.text(), l.sums.unread.stuck()
	case w.grant != "" && a.acknowledged == w.grant:
		r.Wait = "not every release has taken in yet that the deletion is acknowledged"
	case w.grant != "":
		r.Acknowledge = w.grant
	default:
		r.Held = l.hold(w, release, a)
	}
	if r.Wait != "" || len(r.Moving) > 0 || a.standing != standingFree {
		l.waiting[release] = true
	}
	return r
}

// holdsGood reports whether a release that was ruled to delete an object may still do
// so: since the ruling a commit may have come in that wants it, here or in another
// release.
func (l *ledger) holdsGood(release string, generation uint64, id inventory.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[release]
	return a != nil && a.generation == generation && len(l.declared[id]) == 0 && l.standing(l.weigh(), release, a) == standingFree
}

const notInThisRun = "is not part of this run"

// moving are the leaving objects that another release declares.
func (l *ledger) moving(a *account) map[inventory.ID]string {
	moving := map[inventory.ID]string{}
	for _, id := range a.leaving {
		if by := l.declared[id]; len(by) > 0 {
			moving[id] = slices.Min(by)
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
		joinSet(l.asked, owner, release)
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
		return Claim{Why: notInThisRun}
	case l.taking || !owner.declaredKnown && !owner.stalled:
		return Claim{Pending: true, Why: "has not been looked at yet"}
	case !owner.declaredKnown:
		return Claim{Why: "has failed"}
	case owner.keeps != "":
		return Claim{Why: owner.keeps}
	}
	_, declares := owner.declares[id]
	return Claim{Granted: !declares}
}
