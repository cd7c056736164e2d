package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"
)

const (
	// recheck bounds the look at the remote after a push broke off, also when
	// the caller's context is over: the caller must learn what happened.
	recheck = 10 * time.Second
	// busyAttempts is how often a push is repeated that the remote could not
	// carry out although nobody moved the ref.
	busyAttempts = 8
	// settle bounds the wait for the mirror's lock after a push that succeeded.
	settle = 5 * time.Second
)

// RefUpdate moves one ref of the remote.
type RefUpdate struct {
	Name string // full name: refs/…
	Old  string // the value it must have, a full hash; "": it must not exist
	New  string // the value it gets, a full hash that the mirror or WriteCommit knows; "": it is deleted
}

// Push moves refs of the remote, all of them or none, when each still has its
// old value. It sends the commits that WriteCommit made and the remote lacks;
// its cost does not grow with the repository.
//
// Errors: ConflictError (a ref has another value; nothing was written),
// RejectedError (the remote's rules forbid it), ErrUncertain (the connection
// broke, and the remote did not show the new values afterwards), AccessError,
// TransportError.
func (r *Repository) Push(ctx context.Context, updates []RefUpdate) error {
	if err := r.writable(); err != nil {
		return err
	}
	p, err := r.newPush(updates)
	if err != nil || len(p.commands) == 0 {
		return err
	}
	for attempt := 0; ; attempt++ {
		start := time.Now()
		err = r.remote.push(ctx, p)
		var busy *busyError
		if !errors.As(err, &busy) {
			break
		}
		if attempt == busyAttempts {
			err = busy.rejected
			break
		}
		if err := wait(ctx, r.backoff(attempt, time.Since(start))); err != nil {
			return fmt.Errorf("pushing to %s: %w", r.name, err)
		}
	}
	if err != nil {
		return err
	}
	r.pushed(ctx, p)
	return nil
}

// push is a prepared push.
type push struct {
	commands []*packp.Command
	commits  []*pendingCommit
	pack     []byte // nil when refs are only deleted
}

func (r *Repository) newPush(updates []RefUpdate) (*push, error) {
	p := &push{}
	var tips []plumbing.Hash
	seen := map[string]bool{}
	onlyDeletes := true
	for _, u := range updates {
		c, err := r.newCommand(u)
		if err != nil {
			return nil, err
		}
		if seen[u.Name] {
			return nil, fmt.Errorf("pushing %s to %s: the ref is named twice", u.Name, r.name)
		}
		seen[u.Name] = true
		p.commands = append(p.commands, c)
		if c.Action() != packp.Delete {
			onlyDeletes = false
			tips = append(tips, c.New)
		}
	}
	if len(p.commands) == 0 || onlyDeletes {
		return p, nil
	}
	p.commits = r.db.pending.closure(tips)
	pack, err := packCommits(p.commits)
	if err != nil {
		return nil, fmt.Errorf("packing commits for %s: %w", r.name, err)
	}
	p.pack = pack
	return p, nil
}

// packCommits makes a pack of the objects that commits add.
func packCommits(commits []*pendingCommit) ([]byte, error) {
	objects := memory.NewStorage()
	var hashes []plumbing.Hash
	for _, c := range commits {
		for h, o := range c.objects {
			if objects.HasEncodedObject(h) == nil {
				continue
			}
			if _, err := objects.SetEncodedObject(encodedObject(o.kind, o.data)); err != nil {
				return nil, err
			}
			hashes = append(hashes, h)
		}
	}
	plumbing.HashesSort(hashes)
	pack, err := encodePack(objects, hashes, 0)
	return pack.Bytes(), err
}

func (r *Repository) newCommand(u RefUpdate) (*packp.Command, error) {
	fail := func(reason string) error {
		return fmt.Errorf("pushing %s to %s: %s", printable(u.Name, 200), r.name, reason)
	}
	if !validRefName(u.Name) {
		return nil, fail("it is no full ref name")
	}
	c := &packp.Command{Name: plumbing.ReferenceName(u.Name)}
	for _, v := range []struct {
		text string
		hash *plumbing.Hash
	}{{u.Old, &c.Old}, {u.New, &c.New}} {
		if v.text != "" && !plumbing.IsHash(v.text) {
			return nil, fail(fmt.Sprintf("%q is no full hash", printable(v.text, 100)))
		}
		*v.hash = plumbing.NewHash(v.text)
	}
	switch {
	case c.Action() == packp.Invalid:
		return nil, fail("neither the old nor the new value is given")
	case !c.New.IsZero() && !r.db.has(c.New):
		return nil, &UnknownRevisionError{Repository: r.name, Revision: u.New}
	}
	return c, nil
}

// busyError: the remote did not move the ref although it has the old value.
type busyError struct{ rejected *RejectedError }

func (e *busyError) Error() string { return e.rejected.Error() }

// push runs one attempt.
func (r *remote) push(ctx context.Context, p *push) error {
	op := "pushing " + p.names() + " to"
	s, a, err := r.openReceive(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, s)
	if err := r.conflict(p, a); err != nil {
		return err
	}
	req, messages, err := r.newRequest(p, a)
	if err != nil {
		return err
	}
	report, err := await(ctx, func() (*packp.ReportStatus, error) { return s.ReceivePack(ctx, req) }, nil)
	switch {
	case report != nil && complete(report, p):
		return nil
	case report != nil && failed(report):
		return r.refused(ctx, p, report, r.redact.messageLines(messages.String()))
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed), statusCode(err) == 413:
		return r.fail(ctx, op, true, err) // the request was turned away before git saw it
	}
	if err == nil {
		err = errors.New("the remote did not say what it did")
	}
	return r.uncertain(ctx, p, op, err)
}

func (p *push) names() string {
	names := make([]string, len(p.commands))
	for i, c := range p.commands {
		names[i] = c.Name.String()
	}
	return enumerate(names, 3)
}

// openReceive calls the remote for writing.
func (r *remote) openReceive(ctx context.Context) (transport.ReceivePackSession, *advertised, error) {
	type opened struct {
		session transport.ReceivePackSession
		refs    *advertised
	}
	o, err := await(ctx, func() (opened, error) {
		ep := r.endpoint // go-git changes it on a redirect
		s, err := r.client.NewReceivePackSession(&ep, r.auth)
		if err != nil {
			return opened{}, err
		}
		ar, err := s.AdvertisedReferencesContext(ctx)
		if errors.Is(err, transport.ErrEmptyRemoteRepository) {
			ar, err = packp.NewAdvRefs(), nil
		}
		if err != nil {
			s.Close()
			return opened{}, err
		}
		a, err := newAdvertised(ar)
		if err != nil {
			s.Close()
			return opened{}, err
		}
		return opened{s, a}, nil
	}, func(o opened) { o.session.Close() })
	if err != nil {
		return nil, nil, r.fail(ctx, "pushing to", true, err)
	}
	return o.session, o.refs, nil
}

// conflict compares the refs' old values with what the remote has.
func (r *remote) conflict(p *push, a *advertised) error {
	for _, c := range p.commands {
		if have := a.refs[c.Name.String()]; have != c.Old {
			return &ConflictError{Repository: r.name, Ref: c.Name.String(), Want: hashText(c.Old), Have: hashText(have)}
		}
	}
	return nil
}

func hashText(h plumbing.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

func (r *remote) newRequest(p *push, a *advertised) (*packp.ReferenceUpdateRequest, *boundedBuffer, error) {
	req := packp.NewReferenceUpdateRequestFromCapabilities(a.caps)
	messages := &boundedBuffer{limit: 16 << 10}
	req.Progress = messages
	var wanted []capability.Capability
	if len(p.commands) > 1 {
		if !a.caps.Supports(capability.Atomic) {
			return nil, nil, &RejectedError{Repository: r.name, Ref: p.names(), Reason: "it cannot change several refs at once"}
		}
		wanted = append(wanted, capability.Atomic)
	}
	if a.caps.Supports(capability.Sideband64k) {
		wanted = append(wanted, capability.Sideband64k)
	}
	for _, c := range p.commands {
		if c.Action() == packp.Delete {
			if !a.caps.Supports(capability.DeleteRefs) {
				return nil, nil, &RejectedError{Repository: r.name, Ref: c.Name.String(), Reason: "it does not delete refs"}
			}
			wanted = append(wanted, capability.DeleteRefs)
			break
		}
	}
	for _, c := range wanted {
		if err := req.Capabilities.Set(c); err != nil {
			return nil, nil, err
		}
	}
	req.Commands = p.commands
	if p.pack != nil {
		req.Packfile = io.NopCloser(bytes.NewReader(p.pack))
	}
	return req, messages, nil
}

// complete says whether the report confirms every command.
func complete(report *packp.ReportStatus, p *push) bool {
	if report.UnpackStatus != "ok" {
		return false
	}
	ok := map[plumbing.ReferenceName]bool{}
	for _, s := range report.CommandStatuses {
		ok[s.ReferenceName] = s.Status == "ok"
	}
	for _, c := range p.commands {
		if !ok[c.Name] {
			return false
		}
	}
	return true
}

func failed(report *packp.ReportStatus) bool { return report.Error() != nil }

// refused tells apart why the remote did not do it. The words of a report are
// not made for programs, so the refs themselves are looked at first: where one
// has moved, the race was lost, whatever the words are.
func (r *remote) refused(ctx context.Context, p *push, report *packp.ReportStatus, messages []string) error {
	e := &RejectedError{Repository: r.name, Ref: p.names(), Messages: messages}
	busy := false
	if report.UnpackStatus != "ok" {
		e.Reason = printable(r.redact.text(report.UnpackStatus), 300)
	}
	for _, s := range report.CommandStatuses {
		// "atomic push failure" is what becomes of the others when one is refused.
		if s.Status == "ok" || e.Reason != "" && e.Reason != atomicFailure {
			continue
		}
		e.Ref, e.Reason = s.ReferenceName.String(), printable(r.redact.text(s.Status), 300)
		busy = isBusy(s.Status)
	}
	a, err := r.look(ctx)
	if err != nil {
		return e // what was said counts
	}
	if err := r.conflict(p, a); err != nil {
		return err
	}
	if busy {
		return &busyError{e}
	}
	return e
}

const atomicFailure = "atomic push failure"

// isBusy recognises the statuses by which git-receive-pack says that it could
// not take a ref's lock, which happens while another push holds it.
func isBusy(status string) bool {
	for _, s := range []string{"failed to update ref", "failed to lock", "cannot lock ref", "atomic transaction failed", "transaction failed to start"} {
		if strings.Contains(status, s) {
			return true
		}
	}
	return false
}

// uncertain looks at the remote after a push that broke off.
func (r *remote) uncertain(ctx context.Context, p *push, op string, cause error) error {
	failure := r.fail(ctx, op, true, cause)
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), recheck)
	defer cancel()
	a, err := r.look(look)
	if err != nil {
		return &uncertainError{failure}
	}
	for _, c := range p.commands {
		if a.refs[c.Name.String()] != c.New {
			// It may yet happen; or others may already have moved the ref on, and only history tells.
			return &uncertainError{failure}
		}
	}
	return nil
}

// look lists the refs as a push would see them.
func (r *remote) look(ctx context.Context) (*advertised, error) {
	s, a, err := r.openReceive(ctx)
	if err != nil {
		return nil, err
	}
	hangUp(ctx, s)
	return a, nil
}

// hangUp ends a session, but not the caller, when that takes long: go-git
// waits for a process. An error at this point changes nothing.
func hangUp(ctx context.Context, s io.Closer) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	_, _ = await(ctx, func() (struct{}, error) { return struct{}{}, s.Close() }, nil)
}

// uncertainError is a TransportError after which the push may still have happened.
type uncertainError struct{ cause error }

func (e *uncertainError) Error() string {
	return e.cause.Error() + "; " + ErrUncertain.Error()
}
func (e *uncertainError) Unwrap() []error { return []error{e.cause, ErrUncertain} }
func (e *uncertainError) Hint() string {
	return "look at the repository before trying again: the commit may have arrived"
}

// pushed makes the mirror hold what was pushed, so that the next fetch need
// not bring it back. The push has succeeded: nothing here may fail it, and
// what goes wrong is only fetched again.
func (r *Repository) pushed(ctx context.Context, p *push) {
	set, gone := r.noted(p)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer cancel()
	err := r.mirror.exclusive(ctx, func() error {
		if err := r.mirror.refresh(); err != nil {
			return err
		}
		for _, b := range p.builds() {
			if !r.mirror.store.stored(b) {
				return errMissing // another process made the mirror again without it
			}
		}
		if len(p.commits) > 0 {
			if err := r.mirror.install(bytes.NewReader(p.pack)); err != nil {
				return err
			}
		}
		return r.mirror.update(set, func(name string) bool { return gone[name] })
	})
	if err != nil {
		return // the commits stay pending and so stay readable
	}
	for _, c := range p.commits {
		r.db.pending.drop(c.hash)
	}
}

// noted makes revisions resolve to what was pushed.
func (r *Repository) noted(p *push) (set refs, gone map[string]bool) {
	set, gone = refs{}, map[string]bool{}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pushes++
	known := maps.Clone(r.known) // replaced, never changed: others read it without the lock
	for _, c := range p.commands {
		name := c.Name.String()
		if c.New.IsZero() {
			gone[name] = true
			delete(known, name)
			continue
		}
		set[name], known[name] = c.New, c.New
		if r.branch == "" && name == "refs/heads/"+DefaultBranch {
			r.branch = DefaultBranch // the first commit
		}
		if name == "refs/heads/"+r.branch {
			r.head, r.seen = c.New, time.Now()
		}
	}
	r.known = known.named()
	return set, gone
}

// builds are the commits outside the pack that its commits build on.
func (p *push) builds() []plumbing.Hash {
	inside := map[plumbing.Hash]bool{}
	for _, c := range p.commits {
		inside[c.hash] = true
	}
	var outside []plumbing.Hash
	for _, c := range p.commits {
		for _, b := range c.builds {
			if !inside[b] {
				outside = append(outside, b)
			}
		}
	}
	return outside
}

// boundedBuffer keeps the beginning of what is written to it.
type boundedBuffer struct {
	bytes.Buffer
	limit int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, b.limit-b.Len()))])
	return len(p), nil
}
