package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/reconciler"
)

type applyOptions struct {
	environment, ref string
	timeout          time.Duration
	logLevel         string
}

func newApplyCommand(a *app) *cobra.Command {
	var o applyOptions
	c := &cobra.Command{
		Use:   "apply [COMPONENT…] --environment ENVIRONMENT",
		Short: "Make a cluster equal to a commit of the branch, once",
		Long: `Applies a commit of the remote branch, never a working tree, and waits until
every release is ready, has failed or is held. It goes through the same stages
as the controller: health before routes, routes before retiring and pruning.

Ends with exit code 4 when a release did not become ready.`,
		RunE: func(c *cobra.Command, args []string) error { return a.runApply(c.Context(), args, o) },
	}
	c.Flags().StringVar(&o.environment, "environment", "", "environment to apply, `NAME[=NAMESPACE]`")
	_ = c.MarkFlagRequired("environment")
	c.Flags().StringVar(&o.ref, "ref", "", "apply this `commit` of the remote (default: the branch)")
	c.Flags().DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long to wait for readiness")
	c.Flags().StringVar(&o.logLevel, "log-level", "warn", "debug, info, warn or error")
	return c
}

func (a *app) runApply(ctx context.Context, names []string, o applyOptions) error {
	if err := checkLogLevel(o.logLevel); err != nil {
		return err
	}
	e, err := a.openEngine(ctx, engineOptions{environments: []string{o.environment}, logLevel: o.logLevel})
	if err != nil {
		return err
	}
	defer e.repo.Close()
	ref := o.ref
	if ref == "" {
		ref = a.branch
	}
	snap, err := e.repo.Snapshot(ref)
	if err != nil {
		return err
	}
	if err := e.Ping(ctx); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	report, err := e.Converge(limited, e.names[0], snap.Revision(), a.showProgress, names...)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if printErr := a.printReport(report); printErr != nil {
		return printErr
	}
	if err != nil {
		return codedError{fmt.Errorf("not everything was ready within %s", o.timeout), exitNotReady}
	}
	if late := notReady(report); len(late) > 0 {
		return codedError{fmt.Errorf("not ready: %s", strings.Join(late, ", ")), exitNotReady}
	}
	return nil
}

// statusView is how the outcome of a release is printed.
type statusView struct {
	Environment string   `json:"environment"`
	Release     string   `json:"release"`
	Revision    string   `json:"revision"`
	State       string   `json:"state"`
	Reason      string   `json:"reason,omitempty"`
	Message     string   `json:"message,omitempty"`
	Hint        string   `json:"hint,omitempty"`
	Notes       []string `json:"notes,omitempty"`
	Traffic     string   `json:"traffic,omitempty"`
	Created     int      `json:"created"`
	Configured  int      `json:"configured"`
	Unchanged   int      `json:"unchanged"`
	Pruned      int      `json:"pruned"`
}

func (a *app) printReport(report reconciler.Report) error {
	views := []statusView{}
	for _, s := range report.Releases {
		views = append(views, statusView{
			s.Environment, s.Release, s.Revision, string(s.State), s.Reason, s.Message, s.Hint, s.Notes, s.Traffic,
			s.Counts.Created, s.Counts.Configured, s.Counts.Unchanged, s.Counts.Pruned,
		})
	}
	return a.print(views, func(t *table) {
		t.header("RELEASE", "STATE", "CREATED", "CONFIGURED", "UNCHANGED", "PRUNED", "TRAFFIC")
		for _, v := range views {
			t.row(v.Release, v.State, strconv.Itoa(v.Created), strconv.Itoa(v.Configured), strconv.Itoa(v.Unchanged), strconv.Itoa(v.Pruned), v.Traffic)
		}
		for _, v := range views {
			if v.Message != "" && v.State != string(reconciler.StateReady) {
				t.line(printable(fmt.Sprintf("%s: %s: %s", v.Release, v.Reason, v.Message)))
			}
			if v.Hint != "" {
				t.line(printable("  hint: " + v.Hint))
			}
			for _, n := range v.Notes {
				t.line(printable(fmt.Sprintf("%s: note: %s", v.Release, n)))
			}
		}
	})
}

// showProgress says how a release is doing, while it is awaited.
func (a *app) showProgress(s reconciler.Status) {
	if s.Release != "" {
		a.note("%s/%s: %s %s", s.Environment, s.Release, s.State, s.Message)
	}
}

// notReady lists the releases that are not as declared.
func notReady(report reconciler.Report) []string {
	var late []string
	for _, s := range report.Releases {
		switch s.State {
		case reconciler.StateReady, reconciler.StatePaused, reconciler.StateRemoved:
		default:
			late = append(late, s.Environment+"/"+s.Release)
		}
	}
	return late
}
