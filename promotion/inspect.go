package promotion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
)

// inspect gathers the Input of an open pull request, for exactly the head that
// p names. It reads in this order:
//
//  1. the target branch, its merge base with the head, and what the head
//     changed since;
//  2. what merging makes, file by file: the head's files over the target's,
//     the target's where both changed (a conflict);
//  3. the scope: the promotion, or the change of traffic, done again on the merge
//     base must give the very bytes of the head, so that nothing else can ride along;
//  4. whether what decides the render has changed on the target since;
//  5. the evidence about the merged result.
func (s *Service) inspect(ctx context.Context, p PullRequest) (judgement, error) {
	fail := func(err error) (judgement, error) {
		return judgement{}, fmt.Errorf("judging pull request #%d: %w", p.Number, err)
	}
	if p.State != Open {
		return judgement{}, &RequestError{Number: p.Number, Reason: ErrClosed, Detail: "it is " + string(p.State)}
	}
	environment, component, ok := ParseBranch(p.Branch)
	if !ok {
		return judgement{}, &RequestError{Number: p.Number, Reason: ErrRefused, Detail: p.Branch + " is not the branch of a promotion or a change of traffic"}
	}
	refs, err := s.refs(ctx)
	if err != nil {
		return fail(err)
	}
	h, err := s.openHead(refs[headsPrefix+s.branch], p.Head, environment)
	if errors.Is(err, gitrepo.ErrUnknownRevision) {
		return judgement{}, &RequestError{Number: p.Number, Reason: ErrHeadMoved, Detail: "commit " + p.Head + " is gone"}
	}
	if err != nil {
		return fail(err)
	}
	h.merge()
	components := []string{component}
	if h.kind = KindOf(p.Branch); h.kind == KindTraffic {
		h.scopeTraffic(component)
	} else {
		h.had = func(component, digest string) bool {
			had, err := s.hasHad(ctx, h.revision, environment, component, digest)
			return err == nil && had
		}
		h.scope()
		components = sortedKeys(h.components)
	}
	j, err := s.gather(ctx, gathering{
		before: h.target, after: h.merged, environment: environment, components: components,
		head: p.Branch, target: p.Target,
	})
	if err != nil {
		return fail(err)
	}
	if j.target, j.base = h.revision, h.base.Revision(); h.kind == KindTraffic {
		j.overtaken = h.trafficOvertaken(component)
	} else {
		j.overtaken = h.overtaken()
	}
	j.input.Conflicts, j.input.Foreign = h.conflicts, h.foreign
	if j.input.Stale, err = s.stale(h.base, h.target, j.input); err != nil {
		return fail(err)
	}
	return j, nil
}

// head is a pull request's head beside the target branch.
type head struct {
	kind               Kind
	now                time.Time
	environment        string
	revision           string            // of the target branch
	base, target, head *gitrepo.Snapshot // the project at the merge base, the target and the head
	changed            []string          // files of the project that the head changed
	merged             *envrepo.Tree

	had func(component, digest string) bool // whether the environment has pinned a digest before

	components map[string][]string // what the head changes of each component
	conflicts  []string
	foreign    []string
}

func (s *Service) openHead(target, commit, environment string) (*head, error) {
	h := &head{now: s.now(), environment: environment, revision: target, components: map[string][]string{}}
	bases, err := s.repo.MergeBases(target, commit)
	if err != nil {
		return nil, err
	}
	if len(bases) == 0 {
		return nil, fmt.Errorf("%.12s has no history in common with %s: %w", commit, s.branch, ErrMergeConflict)
	}
	base := bases[0]
	if len(bases) > 1 {
		// Git would merge with a base that is none of them: a head that builds on both sides
		// of an earlier merge, and has the files of one, takes back what the other brought.
		h.foreign = append(h.foreign, fmt.Sprintf("its history leaves that of %s in %d places", s.branch, len(bases)))
	}
	for _, side := range []struct {
		revision string
		to       **gitrepo.Snapshot
	}{{base, &h.base}, {target, &h.target}, {commit, &h.head}} {
		if *side.to, err = s.snapshot(side.revision); err != nil {
			return nil, err
		}
	}
	changed, err := s.repo.Changed(base, commit)
	if err != nil {
		return nil, err
	}
	for _, name := range changed {
		inside, ok := s.inProject(name)
		if !ok {
			h.foreign = append(h.foreign, name+" is outside the project")
			continue
		}
		h.changed = append(h.changed, inside)
		if component, ok := componentOf(environment, inside); ok {
			h.components[component] = append(h.components[component], inside)
		} else {
			h.foreign = append(h.foreign, inside+" belongs to no release of "+environment)
		}
	}
	return h, nil
}

// merge makes the tree that merging would make.
func (h *head) merge() {
	h.merged = envrepo.NewTree(h.target)
	for _, name := range h.changed {
		before, _ := h.base.Hash(name)
		ours, _ := h.target.Hash(name)
		theirs, exists := h.head.Hash(name)
		switch {
		case ours == theirs:
		case ours != before:
			h.conflicts = append(h.conflicts, name)
		default:
			if err := h.take(name, exists); err != nil {
				h.foreign = append(h.foreign, plain(err.Error()))
			}
		}
	}
}

// take takes the head's file over, or its deletion.
func (h *head) take(name string, exists bool) error {
	if !exists {
		return h.merged.Remove(name)
	}
	data, err := regular(h.head, name)
	if err != nil {
		return err
	}
	return h.merged.WriteFile(name, data)
}

// scope does the promotion again on the merge base and demands the same bytes.
func (h *head) scope() {
	if len(h.foreign) > 0 {
		return // it is out of scope already; what is foreign need not be understood
	}
	before, err := envrepo.Open(h.base)
	if err != nil {
		h.foreign = append(h.foreign, plain(err.Error()))
		return
	}
	after, err := envrepo.Open(h.head)
	if err != nil {
		h.foreign = append(h.foreign, plain(err.Error()))
		return
	}
	again := envrepo.NewTree(h.base)
	for _, component := range sortedKeys(h.components) {
		if problem := h.replay(again, before, after, component); problem != "" {
			h.foreign = append(h.foreign, problem)
		}
	}
	if len(h.foreign) == 0 {
		h.compare(again)
	}
}

// replay does one component's promotion again and says why that cannot be.
func (h *head) replay(again *envrepo.Tree, before, after *envrepo.Repo, component string) string {
	old, err := before.Release(h.environment, component)
	if err != nil {
		return plain(err.Error())
	}
	new, err := after.Release(h.environment, component)
	if err != nil {
		return plain(err.Error())
	}
	changes := digestChanges(old, new)
	switch len(changes) {
	case 0:
		return strings.Join(h.components[component], ", ") + " changes, but no digest of " + component
	case 1:
	default:
		return fmt.Sprintf("%d digests of %s change at once", len(changes), component)
	}
	change := changes[0]
	digest := change.new
	if from, err := before.Release(old.Environment.Promotion.From, component); err == nil {
		if source, err := envrepo.SourceDigest(from); err == nil && source == digest {
			digest = "" // what the source has may go without a build record
		}
	}
	_, err = envrepo.Promote(again, component, h.environment, change.tag, false, digest)
	if err != nil && h.had(component, change.new) {
		// A rollback may go where a promotion may not: to a tag that has traffic, and
		// into the first environment.
		_, err = envrepo.Rollback(again, h.environment, component, change.tag, change.new)
	}
	if err != nil {
		return plain(err.Error())
	}
	return ""
}

// compare holds the head's files against those of the same change done again.
func (h *head) compare(again *envrepo.Tree) {
	what := "a promotion"
	if h.kind == KindTraffic {
		what = "a change of traffic"
	}
	writes := again.Writes()
	for _, name := range h.changed {
		want, written := writes[name]
		delete(writes, name)
		have, err := regular(h.head, name)
		switch {
		case err != nil:
			h.foreign = append(h.foreign, plain(err.Error()))
		case !written:
			h.foreign = append(h.foreign, name+" is not what "+what+" changes")
		case !bytes.Equal(want, have):
			h.foreign = append(h.foreign, name+" changes more than "+what+" would")
		}
	}
	for _, name := range sortedKeys(writes) {
		h.foreign = append(h.foreign, name+" lacks what "+what+" changes")
	}
	slices.Sort(h.foreign)
	h.foreign = slices.Compact(h.foreign)
}
