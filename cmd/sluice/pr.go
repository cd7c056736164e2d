package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
)

func newPRCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "pr",
		Short: "List, show, merge and close Sluice's pull requests",
		Long: `Pull requests live on the forge that hosts the repository: for a repository on
github.com on GitHub (with the token in SLUICE_GITHUB_TOKEN or GITHUB_TOKEN),
otherwise in the repository itself (a branch, and a record below refs/sluice),
which needs no server. --forge says it explicitly.`,
		RunE: noSubcommand,
	}
	c.AddCommand(newPRListCommand(a), newPRShowCommand(a), newPRMergeCommand(a), newPRCloseCommand(a))
	return c
}

func newPRListCommand(a *app) *cobra.Command {
	var o promotion.ListOptions
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List open pull requests, newest first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			service, err := a.openPromotions(c.Context())
			if err != nil {
				return err
			}
			defer service.Done()
			if !all {
				o.State = promotion.Open
			}
			if err := knownNames(service.project, o.Environment, o.Component); err != nil {
				return err
			}
			list, err := service.List(c.Context(), o)
			if err != nil {
				return err
			}
			if list == nil {
				list = []promotion.PullRequest{}
			}
			return a.print(list, func(t *table) {
				t.header("NUMBER", "STATE", "ENVIRONMENT", "COMPONENTS", "UPDATED", "TITLE")
				for _, p := range list {
					t.row(strconv.Itoa(p.Number), string(p.State), p.Environment, strings.Join(p.Components, ", "), p.UpdatedAt.UTC().Format("2006-01-02 15:04"), p.Title)
				}
			})
		},
	}
	c.Flags().StringVar(&o.Environment, "environment", "", "only into this environment")
	c.Flags().StringVar(&o.Component, "component", "", "only of this component")
	c.Flags().BoolVar(&all, "all", false, "merged and closed ones too")
	return c
}

// knownNames refuses filters that can select nothing.
func knownNames(repo *envrepo.Repo, environment, component string) error {
	if environment != "" {
		if _, err := repo.Environment(environment); err != nil {
			return err
		}
	}
	if component != "" {
		if _, err := repo.Component(component); err != nil {
			return err
		}
	}
	return nil
}

func newPRShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show NUMBER",
		Short: "Show a pull request, its evidence, and how its gates stand",
		Args:  cobra.ExactArgs(1),
		RunE: a.onPull(func(ctx context.Context, service *promotions, number int) error {
			pr, err := service.Get(ctx, number)
			if err != nil {
				return err
			}
			shown := pullView{PullRequest: pr}
			if pr.State == promotion.Open {
				if shown.Gates, err = service.Gates(ctx, pr); err != nil {
					return err
				}
			}
			return a.print(shown, func(t *table) { pullLines(t, shown) })
		}),
	}
}

// pullView is a pull request as it is printed; the gates are judged now.
type pullView struct {
	promotion.PullRequest `json:",inline"`
	Gates                 []promotion.Gate `json:"gates,omitempty"`
}

func pullLines(t *table, v pullView) {
	t.line(printable(fmt.Sprintf("%s (pull request %d, %s)", v.Title, v.Number, v.State)))
	t.line(printable(fmt.Sprintf("  %s at %s into %s", v.Branch, short(v.Head), v.Target)))
	if v.MergedRevision != "" {
		t.line("  merged as " + short(v.MergedRevision))
	}
	if v.Reason != "" {
		t.line(printable("  closed: " + v.Reason))
	}
	if v.URL != "" {
		t.line(printable("  " + v.URL))
	}
	gateLines(t, v.Gates)
	t.line("")
	t.line(printable(strings.TrimSpace(v.Body)))
	for _, c := range v.Comments {
		t.line("")
		t.line(printable("comment " + c.Key + ":"))
		t.line(printable(strings.TrimSpace(c.Body)))
	}
}

type mergeOptions struct {
	override string
	wait     time.Duration
}

func newPRMergeCommand(a *app) *cobra.Command {
	var o mergeOptions
	c := &cobra.Command{
		Use:   "merge NUMBER",
		Short: "Judge the gates of a pull request, and merge exactly its head",
		Long: `Every gate is judged again, from the policy on the target branch, for the commit
that is merged; a status that somebody set counts for nothing. With gates that
have not passed it ends with exit code 3, and merges nothing; --wait gives those
that may pass by waiting the time to do so.`,
		Args: cobra.ExactArgs(1),
		RunE: a.onPull(func(ctx context.Context, service *promotions, number int) error {
			merged, err := a.runMerge(ctx, service, number, o)
			if err != nil {
				return gatesExitCode(err)
			}
			return a.print(merged, func(t *table) {
				t.line(printable(fmt.Sprintf("merged pull request %d: %s (%s)", number, merged.PullRequest.Title, short(merged.Revision))))
			})
		}),
	}
	c.Flags().StringVar(&o.override, "override", "", "merge although gates have not passed, for this `reason`; it is written into the commit")
	c.Flags().DurationVar(&o.wait, "wait", 0, "wait this long for gates that are pending")
	c.MarkFlagsMutuallyExclusive("override", "wait")
	return c
}

// gatePoll is how often a pending gate is judged again that does not know
// when it will pass.
const gatePoll = 2 * time.Second

// runMerge merges, judging pending gates again until the wait is over. Each
// try is a whole judgement and merge of its own, so waiting opens no gap
// between what was judged and what is merged.
func (a *app) runMerge(ctx context.Context, service *promotions, number int, o mergeOptions) (promotion.MergeResult, error) {
	deadline := a.Now().Add(o.wait)
	for {
		merged, err := service.Merge(ctx, number, promotion.MergeOptions{Override: o.override})
		again, pending := gatesPending(err, a.Now())
		if !pending || a.Now().Add(again).After(deadline) {
			return merged, err
		}
		a.note("%v; waiting", err)
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return merged, ctx.Err()
		case <-timer.C:
		}
	}
}

// gatesPending reports whether err only says that gates are pending, and when
// to judge them again.
func gatesPending(err error, now time.Time) (after time.Duration, pending bool) {
	var gates *promotion.GatesError
	if !errors.As(err, &gates) {
		return 0, false
	}
	after = gatePoll
	for _, g := range gates.Gates {
		if g.State != promotion.Pending {
			return 0, false
		}
		if wait := g.Until.Sub(now); !g.Until.IsZero() && wait > after {
			after = wait
		}
	}
	return after, true
}

func newPRCloseCommand(a *app) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "close NUMBER",
		Short: "Close a pull request without merging it",
		Args:  cobra.ExactArgs(1),
		RunE: a.onPull(func(ctx context.Context, service *promotions, number int) error {
			if err := service.Close(ctx, number, reason); err != nil {
				return err
			}
			a.say("closed pull request %d", number)
			return nil
		}),
	}
	c.Flags().StringVar(&reason, "reason", "withdrawn", "why it is closed")
	return c
}

// onPull is the run function of a command about one pull request.
func (a *app) onPull(do func(ctx context.Context, service *promotions, number int) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		number, err := pullNumber(args[0])
		if err != nil {
			return err
		}
		service, err := a.openPromotions(c.Context())
		if err != nil {
			return err
		}
		defer service.Done()
		return do(c.Context(), service, number)
	}
}

// pullNumber reads 3 or #3.
func pullNumber(arg string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(arg, "#"))
	if err != nil || n < 1 {
		return 0, withHint(usagef("%q is not the number of a pull request", arg), "sluice pr list shows them")
	}
	return n, nil
}
