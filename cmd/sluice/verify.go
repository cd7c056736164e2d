package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/gitrepo/signature"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// verifyOptions say whose commits a controller applies. Without key files it
// applies any.
type verifyOptions struct {
	keyFiles []string
	commits  string // verifyHead or verifyEvery
	from     string // revision to begin from instead of what the cluster was applied from
	asked    bool   // commits or from was given
}

const (
	verifyHead  = "head"
	verifyEvery = "every"
)

func (o *verifyOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&o.keyFiles, "verify-key", nil, "apply commits only that a key of this `file` signed: OpenPGP, SSH (repeatable)")
	f.StringVar(&o.commits, "verify-commits", verifyHead, "which commits must be signed: head, or every one since the last verified")
	f.StringVar(&o.from, "verified-from", "", "`commit` to begin from, after a rewritten history (default: what was applied)")
	_ = c.RegisterFlagCompletionFunc("verify-commits", cobra.FixedCompletions([]string{verifyHead, verifyEvery}, cobra.ShellCompDirectiveNoFileComp))
}

func (o verifyOptions) on() bool { return len(o.keyFiles) > 0 }

// check judges the flags; environments are those that are served. Nothing of an
// unverified commit may decide where a controller works.
func (o verifyOptions) check(environments []string) error {
	switch {
	case o.commits != verifyHead && o.commits != verifyEvery:
		return usagef("--verify-commits %q: use head or every", o.commits)
	case !o.on() && o.asked:
		return withHint(usagef("--verify-commits and --verified-from have nothing to do without keys"), "name the keys that are trusted: --verify-key FILE")
	case o.on() && !fixedNamespaces(environments):
		return withHint(usagef("with --verify-key the repository cannot say in which namespace an environment is"),
			"name both: --environment NAME=NAMESPACE")
	}
	return nil
}

// keys reads the files of --verify-key. They are read again for each new commit,
// so that a key can be added or taken away without a restart.
func (o verifyOptions) keys(a *app) (*signature.Keys, error) {
	keys := &signature.Keys{}
	for _, file := range o.keyFiles {
		data, err := os.ReadFile(a.abs(file))
		if err != nil {
			return nil, fmt.Errorf("--verify-key %s: %w", file, err)
		}
		if err := keys.ParseKeys(file, data); err != nil {
			return nil, fmt.Errorf("--verify-key: %w", err)
		}
	}
	return keys, nil
}

// signingKey reads the file of --signing-key, which is done for each commit: a key is
// replaced without a restart.
func (a *app) signingKey() (*signature.PrivateKey, error) {
	data, err := os.ReadFile(a.abs(a.signingKeyFile))
	if err != nil {
		return nil, fmt.Errorf("--signing-key: %w", err)
	}
	key, err := signature.ParsePrivateKey(a.signingKeyFile, data)
	if err != nil {
		return nil, fmt.Errorf("--signing-key: %w", err)
	}
	return key, nil
}

// verifier decides which commits of a branch are applied:
//
//  1. A commit counts when one of the keys signed it; with "every", when all
//     commits that it builds on and the last verified one does not are signed too.
//  2. It must build on the last verified one: an old signed commit that somebody
//     pushes again is no rollback that a signer asked for.
//  3. The last verified one is, in a new process, the newest commit that the
//     cluster's Releases were applied from, if it is signed itself.
//
// It is safe for concurrent use.
type verifier struct {
	repo    *gitrepo.Repository
	every   bool
	keys    func() (*signature.Keys, error)
	applied func(context.Context) ([]string, error) // revisions of the cluster's Releases
	now     func() time.Time

	mu    sync.Mutex
	begun bool
	since string // what a commit must build on; "" when nothing is known
	known string // the last verified one; "" when there is none
}

// clusterVerifier begins with what the cluster was applied from.
func (a *app) clusterVerifier(config *rest.Config, repo *remoteRepository, o engineOptions) *verifier {
	v := &verifier{repo: repo.Repository, every: o.verify.commits == verifyEvery, now: a.Now}
	v.keys = func() (*signature.Keys, error) { return o.verify.keys(a) }
	v.applied = func(ctx context.Context) ([]string, error) {
		if o.verify.from != "" {
			return []string{o.verify.from}, nil
		}
		releases, err := servedReleases(ctx, config, o.environments)
		return appliedRevisions(releases, repositoryIdentity(repo.Name()), o.environments), err
	}
	return v
}

// servedReleases are the Releases in the namespaces of environments, each given with
// its own: a controller has no right to those of others.
func servedReleases(ctx context.Context, config *rest.Config, environments []string) ([]v1alpha1.Release, error) {
	client, err := cluster.New(config)
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx); err != nil {
		return nil, err // sooner than the lists would
	}
	var all []v1alpha1.Release
	for _, arg := range environments {
		_, namespace, _ := strings.Cut(arg, "=")
		list, err := client.Releases(ctx, namespace)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// accept returns nil for a commit that may be applied, else a
// *reconciler.CommitRefusedError, or another error where it could not be found out.
func (v *verifier) accept(ctx context.Context, head string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if head == v.known {
		return nil
	}
	keys, err := v.keys()
	if err == nil {
		err = v.begin(ctx, keys)
	}
	if err != nil {
		return v.refused(head, err)
	}
	if head == v.known {
		return nil
	}
	if err := v.judge(head, keys); err != nil {
		return v.refused(head, err)
	}
	v.since, v.known = head, head
	return nil
}

func (v *verifier) refused(head string, err error) error {
	return &reconciler.CommitRefusedError{Revision: head, Keep: v.known, Err: err}
}

// judge is rules 1 and 2.
func (v *verifier) judge(head string, keys *signature.Keys) error {
	if _, err := v.repo.VerifyCommit(head, keys, v.now()); err != nil || v.since == "" {
		return err
	}
	if v.every {
		return v.repo.VerifySince(v.since, head, keys, v.now())
	}
	return v.repo.VerifyBuildsOn(v.since, head)
}

// begin is rule 3, once.
func (v *verifier) begin(ctx context.Context, keys *signature.Keys) error {
	if v.begun {
		return nil
	}
	revisions, err := v.applied(ctx)
	if err != nil {
		return fmt.Errorf("finding out from which commit the cluster was applied: %w", err)
	}
	for _, rev := range revisions {
		if v.since, err = v.newer(v.since, rev); err != nil {
			return err
		}
	}
	if v.since != "" {
		_, err := v.repo.VerifyCommit(v.since, keys, v.now())
		var unsigned *gitrepo.SignatureError
		switch {
		case err == nil:
			v.known = v.since
		case !errors.As(err, &unsigned):
			return err
		}
	}
	v.begun = true
	return nil
}

// newer is the one of two revisions that builds on the other; a "" is older than
// any. One that the repository does not have was rewritten away.
func (v *verifier) newer(a, b string) (string, error) {
	if a == "" || a == b {
		commit, err := v.repo.Snapshot(b)
		var unknown *gitrepo.UnknownRevisionError
		if errors.As(err, &unknown) {
			return "", withHint(fmt.Errorf("commit %s, which the cluster was applied from, is not in the repository any more: the branch was rewritten", b),
				"if that was meant, name the commit to begin from: --verified-from COMMIT")
		} else if err != nil {
			return "", err
		}
		return commit.Revision(), nil
	}
	err := v.repo.VerifyBuildsOn(a, b)
	var rewritten *gitrepo.RewrittenError
	switch {
	case errors.As(err, &rewritten):
		if err := v.repo.VerifyBuildsOn(b, a); err != nil {
			return "", err
		}
		return a, nil
	case err != nil:
		return "", err
	}
	return b, nil
}

// appliedRevisions are those that Releases of the served environments were applied
// from, each once.
func appliedRevisions(releases []v1alpha1.Release, repository string, environments []string) []string {
	var revisions []string
	for i := range releases {
		r := &releases[i]
		served := slices.ContainsFunc(environments, func(arg string) bool {
			name, namespace, _ := strings.Cut(arg, "=")
			return r.Spec.Environment == name && r.Namespace == namespace
		})
		if rev := r.Status.LastAppliedRevision; served && r.Spec.Repository == repository && rev != "" && !slices.Contains(revisions, rev) {
			revisions = append(revisions, rev)
		}
	}
	slices.Sort(revisions)
	return revisions
}

// verifiedSource gives the reconciler only commits that are signed as they must be.
type verifiedSource struct {
	branchSource
	verifier *verifier
}

// Fetch returns the newest commit of the branch, or a
// *reconciler.CommitRefusedError.
func (s verifiedSource) Fetch(ctx context.Context) (string, error) {
	head, err := s.branchSource.Fetch(ctx)
	if err != nil {
		return "", err
	}
	if err := s.verifier.accept(ctx, head); err != nil {
		return "", err
	}
	return head, nil
}

// vouch is nil while the newest commit of the branch is one that would be applied:
// a merge on top of another one would give it a signature that nobody meant.
func (s verifiedSource) vouch(ctx context.Context) error {
	_, err := s.Fetch(ctx)
	return err
}
