package main

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
)

// explanation is all that is known of why a release runs what it runs.
type explanation struct {
	releaseStatus `json:",inline"`
	Commit        *provenance       `json:"commit,omitempty"` // the newest that changed the release's files
	Seen          bool              `json:"seen"`             // the controller has taken it in
	Deployments   []deploymentChain `json:"deployments,omitempty"`
	Progress      progress          `json:"progress"`
	Awaited       *awaited          `json:"awaited,omitempty"`
	Workloads     []workloadView    `json:"workloads,omitempty"`
	Unkept        string            `json:"unkept,omitempty"` // why the report may be old
	Notes         []string          `json:"notes,omitempty"`  // what could not be found out
}

// provenance is a commit of the branch, and the pull request that it merged.
type provenance struct {
	Revision    string    `json:"revision"`
	Author      string    `json:"author"`
	Time        time.Time `json:"time"`
	Subject     string    `json:"subject"`
	PullRequest int       `json:"pullRequest,omitempty"`
}

// deploymentChain is one deployment of the release from its build on.
type deploymentChain struct {
	Tag     string        `json:"tag,omitempty"`
	Digest  string        `json:"digest,omitempty"` // as Git declares it
	Weight  *int          `json:"weight,omitempty"` // likewise
	Running *runningState `json:"running,omitempty"`
	Pinned  *provenance   `json:"pinnedBy,omitempty"` // the commit that brought the digest here
	Build   *buildView    `json:"build,omitempty"`
}

// awaited says what is waited for, and how long at most.
type awaited struct {
	Since time.Time  `json:"since"`
	Until *time.Time `json:"until,omitempty"` // when it counts as failed
}

// workloadView is a workload with its pods.
type workloadView struct {
	Object string    `json:"object"`
	Tag    string    `json:"tag,omitempty"`
	Pods   []podView `json:"pods"`
}

// podView is a pod in a few words.
type podView struct {
	Name     string `json:"name"`
	Phase    string `json:"phase"`
	Ready    bool   `json:"ready"`
	Restarts int32  `json:"restarts"`
	Digest   string `json:"digest,omitempty"` // of the component's image, as it runs
	Problem  string `json:"problem,omitempty"`
}

func newExplainCommand(a *app) *cobra.Command {
	var environment string
	c := &cobra.Command{
		Use:   "explain COMPONENT --environment ENVIRONMENT",
		Short: "Show why a release runs what it runs, from the commit to the pods",
		Long: `Follows a release through everything that has made it: the commit that declares
it and who wrote it, the pull request that it came with, the builds and their
checks, how far the reconciler has come, what the routes carry, the pods, what
is awaited and until when, and the last error with what to do about it.

"environment" names the environment's own objects. When the repository cannot be
read, or the cluster does not answer, the other side is shown, with exit code 5.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			e, partial, err := a.explain(c.Context(), environment, args[0])
			if err != nil {
				return err
			}
			if err := a.print(e, func(t *table) {
				for _, l := range e.text(a.Now(), a.width(), a.painter(a.Stdout)) {
					t.line(l)
				}
			}); err != nil {
				return err
			}
			return partial
		},
	}
	environmentFlag(c, &environment)
	return c
}

// explain joins what both sides know of one release.
func (a *app) explain(ctx context.Context, environment, name string) (e explanation, partial, err error) {
	sides, err := a.openSides(ctx, "")
	if err != nil {
		return e, nil, err
	}
	defer sides.close()
	environments, err := sides.environments([]string{environment})
	if err != nil {
		return e, nil, err
	}
	if err := sides.knownReleases([]string{name}); err != nil {
		return e, nil, err
	}
	if len(environments) > 1 {
		return e, nil, withHint(fmt.Errorf("the cluster has an environment %s of %d projects", environment, len(environments)), "name the repository of the one that is meant: --repo")
	}
	rows, err := sides.rows(environments[0], []string{name})
	if err != nil {
		return e, nil, err
	}
	if len(rows) == 0 {
		return e, nil, withHint(fmt.Errorf("%s is not in %s", name, environment), "sluice status lists what is")
	}
	rows[0].hold(heldDeletions(sides.reported))
	sides.pauses(ctx, rows)
	e = explanation{releaseStatus: rows[0], Progress: progressOf(rows[0].State, rows[0].Reason)}
	rel := sides.of(environments[0])[name]
	e.fromCluster(ctx, sides.releases, rel, a.Now())
	if sides.repo != nil {
		e.fromRepository(ctx, a, rel)
	}
	e.join()
	return e, sides.partial, nil
}

// note keeps what could not be found out: an explanation with a gap is one still.
func (e *explanation) note(doing string, err error) {
	if err != nil {
		e.Notes = append(e.Notes, doing+": "+err.Error())
	}
}

// fromCluster adds what the cluster knows.
func (e *explanation) fromCluster(ctx context.Context, releases *clusterReleases, rel *v1alpha1.Release, now time.Time) {
	if rel == nil {
		return
	}
	var err error
	e.Unkept, err = releases.unkept(ctx, rel.Spec.Lease, now)
	e.note("the controller's lease", err)
	workloads, err := releases.workloads(ctx, rel, "")
	e.note("the pods", err)
	e.Pods = podGroups(workloads, e.digests())
	for _, w := range workloads {
		view := workloadView{Object: w.id.Display(), Tag: w.tag, Pods: []podView{}}
		for i := range w.pods {
			view.Pods = append(view.Pods, viewPod(&w.pods[i], w.carriers(e.digests())))
		}
		e.Workloads = append(e.Workloads, view)
	}
	if at := rel.Status.Attempt; at != nil && e.State != "OutOfSync" {
		e.Awaited = &awaited{Since: at.Since.UTC()}
	}
}

var imageDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// viewPod is a pod in a few words; carriers are the containers of its workload that run
// the component.
func viewPod(pod *corev1.Pod, carriers []string) podView {
	v := podView{Name: pod.Name, Phase: string(pod.Status.Phase), Ready: podReady(pod), Digest: carried(pod, carriers)}
	if pod.DeletionTimestamp != nil {
		v.Phase = "Terminating"
	}
	for _, s := range pod.Status.ContainerStatuses {
		v.Restarts += s.RestartCount
	}
	v.Problem = strings.TrimPrefix(health.PodProblem([]corev1.Pod{*pod}), "pod "+pod.Name+": ")
	return v
}

// explained is how many commits are looked through for the one that brought a digest.
const explained = 100

// fromRepository adds where the files come from.
func (e *explanation) fromRepository(ctx context.Context, a *app, rel *v1alpha1.Release) {
	repo, err := a.openRemote(ctx)
	if err != nil {
		e.note("the history", err)
		return
	}
	defer repo.Close()
	files, err := repo.open()
	if err != nil {
		e.note("the history", err)
		return
	}
	declared, err := files.PartialRelease(e.Environment, e.Release)
	if err != nil {
		return // the status says so
	}
	paths := []string{path.Join(repo.project, declared.Dir)}
	if declared.Component.Name != "" {
		paths = append(paths, path.Join(repo.project, "components", declared.Component.Name))
	}
	commits, err := repo.History(ctx, repo.branch, paths, 1)
	e.note("the history", err)
	if len(commits) > 0 {
		c := commits[0]
		e.Commit = &provenance{c.Hash, c.Author, c.Time.UTC(), c.Subject(), mergedPull(c.Subject())}
		if rel != nil && rel.Status.ObservedRevision != "" {
			e.Seen, err = repo.IsAncestor(c.Hash, rel.Status.ObservedRevision)
			if err != nil {
				e.Seen = false // the repository has lost that commit
			}
		}
	}
	if e.Awaited != nil && declared.Component.HealthTimeout > 0 && e.Progress.Stage == "wait" && !e.Progress.Failed {
		until := e.Awaited.Since.Add(declared.Component.HealthTimeout)
		e.Awaited.Until = &until
	}
	if e.Release == envrepo.EnvironmentRelease {
		return
	}
	changes, err := repo.releaseHistory(ctx, repo.branch, e.Environment, e.Release, explained)
	e.note("the history", err)
	for _, s := range e.Declared {
		d := deploymentChain{Tag: s.Tag, Digest: s.Digest, Weight: s.Weight, Pinned: pinnedBy(changes, s)}
		if b, err := files.Build(e.Release, s.Digest); err == nil {
			v := viewBuild(b, nil)
			d.Build = &v
		}
		e.Deployments = append(e.Deployments, d)
	}
}

// join adds what runs to the deployments that are declared, and what only runs.
func (e *explanation) join() {
	for i := range e.Running {
		r := &e.Running[i]
		at := slices.IndexFunc(e.Deployments, func(d deploymentChain) bool { return d.Tag == r.Tag })
		if at < 0 {
			e.Deployments = append(e.Deployments, deploymentChain{Tag: r.Tag})
			at = len(e.Deployments) - 1
		}
		e.Deployments[at].Running = r
	}
	for _, g := range e.others() { // of what was converted, until the routes have moved
		if !slices.ContainsFunc(e.Deployments, func(d deploymentChain) bool { return d.Tag == g.Tag }) {
			e.Deployments = append(e.Deployments, deploymentChain{Tag: g.Tag})
		}
	}
}

// pinnedBy is the commit that brought a digest to where it stands: the oldest of those,
// newest first, since which it has been there.
func pinnedBy(changes []change, s releaseState) *provenance {
	var found *provenance
	for _, c := range changes {
		if !slices.ContainsFunc(c.State, func(then releaseState) bool { return then.Tag == s.Tag && then.Digest == s.Digest }) {
			break
		}
		found = &provenance{c.Revision, c.Author, c.Time.UTC(), firstLine(c.Message), mergedPull(firstLine(c.Message))}
	}
	return found
}

var (
	mergeSubject  = regexp.MustCompile(`^Merge pull request #([0-9]{1,9})\b`)
	squashSubject = regexp.MustCompile(`\(#([0-9]{1,9})\)$`)
)

// mergedPull is the number of the pull request that a commit merged, as Sluice and the
// forges write it into the subject; 0 for none.
func mergedPull(subject string) int {
	for _, pattern := range []*regexp.Regexp{mergeSubject, squashSubject} {
		if m := pattern.FindStringSubmatch(strings.TrimSpace(subject)); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
	}
	return 0
}

// pausedSince is the commit that began the pause that a release is in.
func (r *remoteRepository) pausedSince(ctx context.Context, rel envrepo.Release) (*provenance, error) {
	file := "sluice.yaml"
	if !rel.Environment.Paused {
		file = path.Join("components", rel.Component.Name, "component.yaml")
	}
	commits, err := r.History(ctx, r.branch, []string{path.Join(r.project, file)}, explained)
	if err != nil {
		return nil, err
	}
	var since *provenance
	for _, c := range commits {
		paused, err := r.pausedAt(c.Hash, rel)
		if err != nil || !paused {
			break
		}
		since = &provenance{c.Hash, c.Author, c.Time.UTC(), c.Subject(), mergedPull(c.Subject())}
	}
	return since, nil
}

func (r *remoteRepository) pausedAt(revision string, rel envrepo.Release) (bool, error) {
	snap, err := r.snapshot(revision)
	if err != nil {
		return false, err
	}
	repo, err := envrepo.Open(snap)
	if err != nil {
		return false, err
	}
	if rel.Environment.Paused {
		env, err := repo.Environment(rel.Environment.Name)
		return env.Paused, err
	}
	component, err := repo.Component(rel.Component.Name)
	return component.Paused, err
}
