package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

type reconcileOptions struct {
	environments []string
	wait         bool
	timeout      time.Duration
}

func newReconcileCommand(a *app) *cobra.Command {
	var o reconcileOptions
	c := &cobra.Command{
		Use:   "reconcile [COMPONENT…]",
		Short: "Have the controller look at the repository and the releases now",
		Long: `Asks the controller, by an annotation on the Releases, to look at the repository
and to pass over these releases now: what came in is taken in, what has failed
is tried again. What is applied is what the branch says, as ever. "environment"
names an environment's own objects; without a name it is all releases, of the
environments that --environment names, or of all.

It waits until the controller has answered, not until all is ready: that is
"sluice status --watch --until ready". Exit code 4 says that a release has
failed or is held, or that nobody answered within --timeout.`,
		RunE: func(c *cobra.Command, args []string) error { return a.reconcileNow(c.Context(), args, o) },
	}
	f := c.Flags()
	f.StringSliceVar(&o.environments, "environment", nil, "only these environments")
	f.BoolVar(&o.wait, "wait", true, "wait until the controller has answered")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how long to wait")
	return c
}

// requester is who writes the annotation, among the managers of fields.
const requester = "sluice-cli"

func (a *app) reconcileNow(ctx context.Context, names []string, o reconcileOptions) error {
	releases, asked, err := a.chosenReleases(ctx, o.environments, names)
	if err != nil {
		return err
	}
	value := a.Now().UTC().Format(time.RFC3339Nano)
	for _, r := range asked {
		if err := releases.client.AskRelease(ctx, r.Namespace, r.Name, value, requester); err != nil {
			return err
		}
	}
	if !o.wait {
		a.note("asked for %s", countOf(len(asked), "release"))
		return nil
	}
	a.noteUnkeptReleases(ctx, releases, asked)
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, errUnanswered)
	defer cancel()
	done := a.progress("waiting for the controller")
	err = releases.awaitAnswers(ctx, asked, value)
	done()
	if err != nil && !errors.Is(err, errUnanswered) {
		return err
	}
	if printErr := a.printAnswers(ctx, o.environments, names); printErr != nil || err == nil {
		return printErr
	}
	return withHint(codedError{fmt.Errorf("%w within %s", err, o.timeout), exitNotReady},
		"see whether a controller that serves the environment runs, and its log; it must be as new as this command")
}

// errUnanswered: nobody has taken the annotation notice of.
var errUnanswered = errors.New("no controller has answered for all releases")

// noteUnkeptReleases says of controllers that seem to be gone that they are.
func (a *app) noteUnkeptReleases(ctx context.Context, releases *clusterReleases, asked []v1alpha1.Release) {
	said := map[string]bool{}
	for _, r := range asked {
		lease := r.Spec.Lease
		if said[lease] {
			continue
		}
		said[lease] = true
		if problem, err := releases.unkept(ctx, lease, a.Now()); err == nil && problem != "" {
			a.note("warning: %s: %s", r.Spec.Environment, problem)
		}
	}
}

// awaitAnswers waits until the status of all of them repeats the value, or they are
// gone. The end of ctx is an error, its cause.
func (r *clusterReleases) awaitAnswers(ctx context.Context, asked []v1alpha1.Release, value string) error {
	changed := make(chan struct{}, 1)
	var namespaces []string
	waiting := map[string]bool{}
	for _, release := range asked {
		waiting[release.Namespace+"/"+release.Name] = true
		if !slices.Contains(namespaces, release.Namespace) {
			namespaces = append(namespaces, release.Namespace)
			r.watch(ctx, release.Namespace, changed)
		}
	}
	for len(waiting) > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
		for _, namespace := range namespaces {
			now, err := r.client.Releases(ctx, namespace)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				return err
			}
			there := map[string]bool{}
			for _, release := range now {
				there[release.Namespace+"/"+release.Name] = release.Status.LastHandledReconcileAt != value
			}
			for name := range waiting {
				if strings.HasPrefix(name, namespace+"/") && !there[name] {
					delete(waiting, name)
				}
			}
		}
	}
	return nil
}

// printAnswers prints the status of the releases, and fails if one has.
func (a *app) printAnswers(ctx context.Context, environments, names []string) error {
	ctx = context.WithoutCancel(ctx) // the time is for the controller
	list, _, err := a.readStatus(ctx, names, statusOptions{environments: environments})
	if err != nil {
		return err
	}
	if err := a.print(list, func(t *table) { a.statusTable(t, list) }); err != nil {
		return err
	}
	var late []string
	for _, r := range list {
		if r.State == v1alpha1.ConditionStalled || r.Held != nil {
			late = append(late, r.Environment+"/"+r.Release)
		}
	}
	if len(late) > 0 {
		return codedError{fmt.Errorf("not ready: %s", strings.Join(late, ", ")), exitNotReady}
	}
	return nil
}

// countOf is a number of things in words.
func countOf(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
