package promotion

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// MergeOptions are the choices of whoever merges.
type MergeOptions struct {
	Override string // why gates that have not passed are set aside; "": they are not
}

// MergeResult is what came of a merge.
type MergeResult struct {
	PullRequest PullRequest `json:"pullRequest"`
	Revision    string      `json:"revision"` // of the target branch
	Gates       []Gate      `json:"gates"`
	Overridden  []Gate      `json:"overridden,omitempty"` // those that had not passed
}

// Merge judges a pull request anew, for the exact head and the exact target
// that it then merges, and merges it when every gate has passed. Otherwise it
// fails with a *GatesError, unless a reason to override them is given, which
// the merge commit records. When the target branch moves meanwhile the judging
// starts again; when the head moves, it fails with ErrHeadMoved.
func (s *Service) Merge(ctx context.Context, number int, o MergeOptions) (MergeResult, error) {
	p, err := s.forge.Get(ctx, number)
	if err != nil {
		return MergeResult{}, err
	}
	result := MergeResult{PullRequest: p}
	var j judgement
	err = retry(ctx, ErrTargetMoved, func() error {
		if err := s.renew(ctx, p, &j); err != nil {
			return err
		}
		result.Gates = Judge(j.input)
		result.Overridden = Unmet(result.Gates)
		if err := s.Publish(ctx, p, result.Gates); err != nil {
			return err
		}
		if len(result.Overridden) > 0 && plain(o.Override) == "" {
			return &GatesError{Number: number, Gates: result.Overridden}
		}
		if err := s.vouch(ctx, j.target); err != nil {
			return fmt.Errorf("merging pull request #%d onto %.12s: %w", number, j.target, err)
		}
		result.Revision, err = s.forge.Merge(ctx, number, MergeSpec{
			Head: p.Head, Target: j.target, Message: mergeMessage(p, result.Overridden, o),
		})
		return err
	})
	if err != nil {
		return MergeResult{}, err
	}
	result.PullRequest, err = s.forge.Get(ctx, number)
	return result, err
}

// renew brings a judgement up to the present target. When nothing that it
// rests on has changed there it stands, so that a busy repository does not
// keep a pull request from being merged.
func (s *Service) renew(ctx context.Context, p PullRequest, j *judgement) error {
	if j.target != "" {
		refs, err := s.refs(ctx)
		if err != nil {
			return err
		}
		target := refs[headsPrefix+s.branch]
		moved, err := s.moved(j.target, target, j.reads)
		if err != nil {
			return err
		}
		bases, err := s.repo.MergeBases(target, p.Head)
		if err != nil {
			return err
		}
		// From another base the head changes other files.
		if len(moved) == 0 && slices.Equal(bases, []string{j.base}) {
			j.target, j.input.Now = target, s.now()
			return nil
		}
	}
	fresh, err := s.inspect(ctx, p)
	if err == nil {
		*j = fresh
	}
	return err
}

// mergeMessage is the message of the merge commit. What was overridden stands
// in trailers, one line each, which foreign text cannot forge.
func mergeMessage(p PullRequest, overridden []Gate, o MergeOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Merge pull request #%d: %s\n", p.Number, cut(plain(p.Title), maxTitle))
	if len(overridden) > 0 {
		fmt.Fprintf(&b, "\nSluice-Override: %s\n", cut(plain(o.Override), 500))
		for _, g := range overridden {
			fmt.Fprintf(&b, "Sluice-Gate: %s\n", cut(plain(g.String()), 500))
		}
	}
	return b.String()
}
