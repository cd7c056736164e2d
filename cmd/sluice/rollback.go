package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
)

type rollbackOptions struct {
	environment, tag, build string
	now                     bool
}

func newRollbackCommand(a *app) *cobra.Command {
	var o rollbackOptions
	c := &cobra.Command{
		Use:   "rollback COMPONENT --environment ENVIRONMENT",
		Short: "Propose the digest that ran before, found in the Git history",
		Long: `Finds the last digest that the overlay pinned before the present one, where the
cluster can be asked the last one that is known to have been ready there, and
opens a pull request that pins it again, with the same evidence as a promotion.
--build names another one, --now commits at once and opens none. Run again it
changes nothing, rather than to bring back what was rolled back. A release with
tags needs --tag; where the previous deployment still runs under the other tag,
"traffic promote" is the faster way back.`,
		Example: `  sluice rollback api --environment production --tag blue
  sluice rollback api --environment production --tag blue --now`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.now {
				return a.rollBackNow(c.Context(), args[0], o)
			}
			return a.proposeRollback(c.Context(), args[0], o)
		},
	}
	environmentFlag(c, &o.environment)
	c.Flags().StringVar(&o.tag, "tag", "", "deployment tag to roll back")
	c.Flags().StringVar(&o.build, "build", "", "roll back to this recorded `build`")
	c.Flags().BoolVar(&o.now, "now", false, "commit it at once, without a pull request or gates")
	return c
}

// proposeRollback opens the pull request of a rollback.
func (a *app) proposeRollback(ctx context.Context, name string, o rollbackOptions) error {
	service, err := a.openPromotions(ctx)
	if err != nil {
		return err
	}
	defer service.Done()
	served := a.servedIn(ctx, service.repo, service.project, name, o)
	digest, done, err := service.repo.rollbackDigest(ctx, service.project, name, o, served)
	if err != nil {
		return err
	}
	if done.Message != "" {
		return a.printCommitted(committed{Message: done.Message, Notes: done.Notes})
	}
	proposal, err := service.Propose(ctx, promotion.Request{
		Components: []string{name}, To: o.environment, Tag: o.tag, Digest: digest, Back: true,
	})
	if err != nil {
		return err
	}
	return a.printProposal(proposal)
}

// rollBackNow commits a rollback.
func (a *app) rollBackNow(ctx context.Context, name string, o rollbackOptions) error {
	repo, err := a.openRemote(ctx)
	if err != nil {
		return err
	}
	defer repo.Close()
	project, err := repo.open()
	if err != nil {
		return err
	}
	served := a.servedIn(ctx, repo, project, name, o)
	done, err := repo.change(ctx, func(t *envrepo.Tree) (envrepo.Summary, error) {
		project, err := envrepo.Open(t)
		if err != nil {
			return envrepo.Summary{}, err
		}
		digest, done, err := repo.rollbackDigest(ctx, project, name, o, served)
		if err != nil || done.Message != "" {
			return done, err
		}
		return envrepo.Rollback(t, o.environment, name, o.tag, digest)
	})
	if err != nil {
		return err
	}
	return a.printCommitted(done)
}

// servedIn asks the cluster which digests are known to have been ready in an
// environment. Without an answer it is nil: the history has to do then, since a
// rollback must not wait for a cluster.
func (a *app) servedIn(ctx context.Context, repo *remoteRepository, project *envrepo.Repo, name string, o rollbackOptions) []string {
	if o.build != "" {
		return nil // somebody knows better
	}
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	// What has served has served, whether or not the controller lives.
	rel, _, err := a.health(repo, project.Project()).find(ctx, o.environment, name)
	if err != nil || rel == nil {
		return nil
	}
	var digests []string
	for _, s := range rel.Status.Served {
		digests = append(digests, s.Digest)
	}
	return digests
}

// servedTimeout is how long a rollback asks the cluster.
const servedTimeout = 5 * time.Second

// rollbackDigest is the digest to go back to: the named build's, or the last one that
// the overlay pinned before the present one; of these, the last that served, where
// that is known of any. Where the present one was itself rolled back to there is
// none, and a summary says so: who runs the command twice in a hurry must not bring
// back what failed.
func (r *remoteRepository) rollbackDigest(ctx context.Context, repo *envrepo.Repo, name string, o rollbackOptions, served []string) (string, envrepo.Summary, error) {
	environment, tag := o.environment, o.tag
	rel, err := repo.PartialRelease(environment, name)
	if err != nil {
		return "", envrepo.Summary{}, err
	}
	present, err := pinnedDigest(rel, tag)
	if err != nil {
		return "", envrepo.Summary{}, err
	}
	if o.build != "" {
		b, err := repo.Build(name, o.build)
		return b.Digest, envrepo.Summary{}, err
	}
	changes, err := r.releaseHistory(ctx, r.branch, environment, name, maxPast)
	if err != nil {
		return "", envrepo.Summary{}, err
	}
	past := deploymentPast{tag: tag, present: present}
	for _, c := range changes {
		past.add(c)
	}
	switch {
	case past.wentBack():
		return "", rolledBack(name, environment, tag, present, past.before), nil
	case len(past.before) > 0:
		return lastGood(past.before, present, served), envrepo.Summary{}, nil
	case present == "":
		return "", envrepo.Summary{}, withHint(fmt.Errorf("nothing is deployed of %s in %s yet, so there is nothing to roll back to", name, environment), "deploy a build: sluice deploy %s --environment %s --build BUILD", name, environment)
	}
	return "", envrepo.Summary{}, withHint(fmt.Errorf("%s in %s has run no other digest than %s, so there is nothing to roll back to", name, environment, buildID(present)),
		"name one with --build; `sluice build list %s` shows them", name)
}

// lastGood is the newest of the digests before the present one that served; the
// newest one where that is known of none.
func lastGood(before []string, present string, served []string) string {
	for _, digest := range before {
		if digest != present && slices.Contains(served, digest) {
			return digest
		}
	}
	return before[0]
}

// maxPast is how many changes of a release are looked back over for what it ran before.
const maxPast = 200

// deploymentPast is what a release (under a tag) pinned before its present digest. It
// is told by add, and what a rollback brings back follows from it: for the command,
// and for check, which demands that the configuration is there for it.
type deploymentPast struct {
	tag, present string

	// before are the digests before the present one, newest first, each once in a row:
	// the present one is among them where it had been pinned before.
	before  []string
	arrived bool   // a commit is known that pins the present digest; else it is new
	arrival string // the message of the one that did so last
}

// add tells of a commit that changed the release, the newest first.
func (p *deploymentPast) add(c change) {
	last := p.present
	if len(p.before) > 0 {
		last = p.before[len(p.before)-1]
	}
	for _, s := range c.State {
		switch {
		case s.Tag != p.tag || s.Digest == "":
		case s.Digest != last:
			p.before = append(p.before, s.Digest)
			return
		case len(p.before) == 0 && !trialMerge.MatchString(c.Message):
			p.arrived, p.arrival = true, c.Message
		}
	}
}

// trialMerge is the message of the commit that GitHub makes of a pull request for its
// pipelines. It says nothing of what the merge will say.
var trialMerge = regexp.MustCompile(`^Merge [0-9a-f]{40} into [0-9a-f]{40}\s*$`)

// wentBack reports whether the present digest is what was gone back to: it had been
// there before, and came by a commit that says so or by none yet. What it replaced is
// what was bad then, and nothing to go back to.
func (p *deploymentPast) wentBack() bool {
	return slices.Contains(p.before, p.present) && (!p.arrived || envrepo.GoesBack(p.arrival))
}

// target is the digest that a rollback brings back; "" when there is none.
func (p *deploymentPast) target() string {
	if len(p.before) == 0 || p.wentBack() {
		return ""
	}
	return p.before[0]
}

// settled reports whether older commits can change nothing of target.
func (p *deploymentPast) settled() bool {
	forward := p.arrived && !envrepo.GoesBack(p.arrival)
	return len(p.before) > 0 && forward || p.wentBack()
}

// rolledBack says that the present digest is what was gone back to.
func rolledBack(name, environment, tag, present string, before []string) envrepo.Summary {
	where := name + " in " + environment
	if tag != "" {
		where += " (" + tag + ")"
	}
	summary := envrepo.Summary{Message: fmt.Sprintf("%s has gone back from %s to %s already: nothing is changed", where, buildID(before[0]), buildID(present))}
	var others []string
	for _, digest := range before {
		if id := buildID(digest); digest != present && !slices.Contains(others, id) && len(others) < 5 {
			others = append(others, id)
		}
	}
	summary.Notes = []string{"--build goes to another one; of those that ran, newest first: " + strings.Join(others, ", ")}
	return summary
}

// pinnedDigest is the digest that a release (under a tag) pins now.
func pinnedDigest(rel envrepo.Release, tag string) (string, error) {
	if !rel.Tagged() {
		if tag != "" {
			return "", fmt.Errorf("%s has no tags in %s, so no tag %q", rel.Name, rel.Environment.Name, tag)
		}
		return rel.Digest, nil
	}
	var names []string
	for _, t := range rel.Tags {
		if t.Name == tag {
			return t.Digest, t.Broken
		}
		names = append(names, t.Name)
	}
	if tag == "" {
		return "", withHint(usagef("%s runs under tags in %s: which one is to be rolled back?", rel.Name, rel.Environment.Name), "--tag is one of: %s", strings.Join(names, ", "))
	}
	return "", withHint(fmt.Errorf("%s has no tag %q in %s", rel.Name, tag, rel.Environment.Name), "its tags: %s", strings.Join(names, ", "))
}
