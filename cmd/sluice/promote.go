package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/promotion"
)

type promoteOptions struct {
	to, tag, build string
	bluegreen, all bool
	force          bool
}

func newPromoteCommand(a *app) *cobra.Command {
	var o promoteOptions
	c := &cobra.Command{
		Use:   "promote COMPONENT --to ENVIRONMENT",
		Short: "Open a pull request that copies a digest onwards",
		Long: `Takes the digest that runs in the environment before (where it has tags, the one
with the most traffic) and proposes it for this one. There is one open pull
request for a component and an environment: proposing a newer build updates it.
Into an environment with tags it goes to the tag without traffic, and weights
are left alone.

--build proposes another build, such as one that a broken one came after. In
place of a newer build that is proposed already it does so with --force only.

The health of the environment before is read from the cluster at hand, or from
the reports that its controller signs, where --report-key gives their key.`,
		Example: `  sluice promote api --to staging
  sluice promote api --to production --tag green
  sluice promote --all --to staging`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.all == (len(args) == 1) {
				return withHint(usagef("name one component, or --all"), "sluice promote COMPONENT --to ENVIRONMENT, or sluice promote --all --to ENVIRONMENT")
			}
			if o.force && o.build == "" {
				return withHint(usagef("--force is for --build, which is missing"), "without --build the environment before says which build is proposed")
			}
			return a.runPromote(c, args, o)
		},
	}
	c.Flags().StringVar(&o.to, "to", "", "target `environment`")
	_ = c.MarkFlagRequired("to")
	c.Flags().BoolVar(&o.all, "all", false, "propose every component whose digest differs, in one pull request")
	c.Flags().StringVar(&o.build, "build", "", "propose this recorded `build` instead of what runs in the environment before")
	c.Flags().BoolVar(&o.force, "force", false, "with --build: also in place of a newer build that is proposed")
	tagFlags(c, &o.tag, &o.bluegreen)
	for _, one := range []string{"build", "tag", "bluegreen"} {
		c.MarkFlagsMutuallyExclusive("all", one)
	}
	return c
}

func (a *app) runPromote(c *cobra.Command, components []string, o promoteOptions) error {
	service, err := a.openPromotions(c.Context())
	if err != nil {
		return err
	}
	defer service.Done()
	request := promotion.Request{Components: components, All: o.all, To: o.to, Tag: o.tag, BlueGreen: o.bluegreen, Force: o.force}
	if o.build != "" {
		build, err := service.project.Build(components[0], o.build)
		if err != nil {
			return err
		}
		request.Digest = build.Digest
	}
	proposal, err := service.Propose(c.Context(), request)
	if err != nil {
		return err
	}
	return a.printProposal(proposal)
}

// printProposal prints what came of proposing a promotion or a rollback.
func (a *app) printProposal(proposal promotion.Proposal) error {
	for _, n := range proposal.Notes {
		a.note("note: %s", n)
	}
	return a.print(proposal, func(t *table) {
		if proposal.Already {
			t.line(printable(proposal.Message))
			return
		}
		pr := proposal.PullRequest
		t.line(printable(fmt.Sprintf("pull request %d: %s", pr.Number, pr.Title)))
		t.line("  branch " + pr.Branch + " at " + short(pr.Head))
		if pr.URL != "" {
			t.line(printable("  " + pr.URL))
		}
		gateLines(t, proposal.Gates)
	})
}

// gateLines prints how the gates stand, one a line.
func gateLines(t *table, gates []promotion.Gate) {
	marks := map[promotion.GateState]string{promotion.Passed: "✓", promotion.Pending: "…", promotion.Failed: "✗"}
	for _, g := range gates {
		t.line(printable(fmt.Sprintf("  %s %s: %s", marks[g.State], g.Name, g.Message)))
	}
}
