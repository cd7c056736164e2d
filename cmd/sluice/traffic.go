package main

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
)

func newTrafficCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "traffic",
		Short: "Read and set how traffic is split over the tags of a release",
		Long: `Weights are percent and sum to 100. A tag of weight 0 keeps its pods and gets no
production traffic; a tag that is left out is scaled to zero and keeps its
overlay. Each change is a commit; git revert takes it back. Where sluice.yaml
says "traffic: {via: pullRequest}", it is proposed instead.`,
		RunE: noSubcommand,
	}
	c.AddCommand(newTrafficGetCommand(a), newTrafficSetCommand(a), newTrafficPromoteCommand(a), newTrafficSuspendCommand(a), newTrafficRemoveCommand(a))
	return c
}

// trafficView is how the traffic of a release is printed.
type trafficView struct {
	Tags []tagView `json:"tags"`
}

type tagView struct {
	DeploymentID string `json:"deployment_id"`
	Tag          string `json:"tag"`
	Weight       int    `json:"weight"`
	MirrorWeight int    `json:"mirror_weight,omitempty"`
}

// viewTraffic lists the listed tags, largest weight first, document order among equals.
func viewTraffic(rel envrepo.Release) trafficView {
	v := trafficView{Tags: []tagView{}}
	digests := map[string]string{}
	for _, tag := range rel.Tags {
		digests[tag.Name] = tag.Digest
	}
	mirrors := map[string]int{}
	for _, m := range rel.Traffic.Mirrors {
		mirrors[m.Tag] = m.Percent
	}
	for _, w := range rel.Traffic.Weights {
		v.Tags = append(v.Tags, tagView{buildID(digests[w.Tag]), w.Tag, w.Percent, mirrors[w.Tag]})
	}
	sort.SliceStable(v.Tags, func(i, j int) bool { return v.Tags[i].Weight > v.Tags[j].Weight })
	return v
}

// buildID is the name that a digest's build record has.
func buildID(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(12, len(hex))]
}

func newTrafficGetCommand(a *app) *cobra.Command {
	var environment, ref string
	c := &cobra.Command{
		Use:   "get COMPONENT --environment ENVIRONMENT",
		Short: "Print the weights of a release, largest first",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			v, err := a.openView(c.Context(), ref, fromBranch)
			if err != nil {
				return err
			}
			defer v.Close()
			rel, err := v.Repo.PartialRelease(environment, args[0])
			if err != nil {
				return err
			}
			if !rel.Tagged() {
				return withHint(fmt.Errorf("%s has no tags in %s: it runs once, and all traffic goes to it", args[0], environment), "sluice component tag %s --environment %s", args[0], environment)
			}
			shown := viewTraffic(rel)
			return a.printAs("yaml", shown, func(t *table) {
				t.header("TAG", "WEIGHT", "MIRROR", "BUILD")
				for _, tag := range shown.Tags {
					mirror := ""
					if tag.MirrorWeight > 0 {
						mirror = strconv.Itoa(tag.MirrorWeight)
					}
					t.row(tag.Tag, strconv.Itoa(tag.Weight), mirror, tag.DeploymentID)
				}
			})
		},
	}
	environmentFlag(c, &environment)
	refFlag(c, &ref, fromBranch)
	return c
}

func newTrafficSetCommand(a *app) *cobra.Command {
	var o trafficOptions
	var tags, mirrors []string
	c := &cobra.Command{
		Use:   "set COMPONENT --environment ENVIRONMENT --tags TAG=PERCENT,…",
		Short: "Replace the whole list of weights, and of mirrors",
		Long: `Sets the weights of all tags at once: one that is left out is scaled to zero,
and mirrors that are not named end. Of two people who do this at the same time,
the list of one stands afterwards, whole.

` + trafficOptionsHelp,
		Example: `  sluice traffic set api --environment production --tags blue=90,green=10
  sluice traffic set api --environment production --tags blue=90,green=10 --dry-run
  sluice traffic set api --environment production --tags blue=100,green=0 --mirror green=5`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			weights, err := parseWeights("--tags", tags)
			if err != nil {
				return err
			}
			copies, err := parseWeights("--mirror", mirrors)
			if err != nil {
				return err
			}
			return a.changeTraffic(c.Context(), args[0], o, func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.SetTraffic(t, o.environment, args[0], envrepo.Traffic{Weights: weights, Mirrors: copies})
			})
		},
	}
	o.addFlags(c)
	c.Flags().StringSliceVar(&tags, "tags", nil, "weights, `TAG=PERCENT,…`; they sum to 100")
	c.Flags().StringSliceVar(&mirrors, "mirror", nil, "percent of production requests copied to a tag of weight 0, `TAG=PERCENT`")
	_ = c.MarkFlagRequired("tags")
	return c
}

// parseWeights reads TAG=PERCENT arguments; envrepo judges what they mean.
func parseWeights(flag string, args []string) ([]envrepo.Weight, error) {
	var weights []envrepo.Weight
	for _, arg := range args {
		tag, number, ok := strings.Cut(arg, "=")
		percent, err := strconv.Atoi(number)
		if !ok || tag == "" || err != nil {
			return nil, withHint(usagef("%s %q is not TAG=PERCENT", flag, arg), "percent is a whole number, such as %s green=10", flag)
		}
		weights = append(weights, envrepo.Weight{Tag: tag, Percent: percent})
	}
	return weights, nil
}

func newTrafficPromoteCommand(a *app) *cobra.Command {
	var o trafficOptions
	var to string
	c := &cobra.Command{
		Use:   "promote COMPONENT --environment ENVIRONMENT",
		Short: "Move all traffic to the other tag; run again, it moves back",
		Long: `Gives the other tag 100 %, keeps the present one at weight 0 with its pods
running, and ends mirroring. With more than two tags, --to names the one.

` + trafficOptionsHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeTraffic(c.Context(), args[0], o, func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.PromoteTraffic(t, o.environment, args[0], to)
			})
		},
	}
	o.addFlags(c)
	c.Flags().StringVar(&to, "to", "", "`tag` that gets all traffic")
	return c
}

func newTrafficSuspendCommand(a *app) *cobra.Command {
	var o trafficOptions
	var tags []string
	c := &cobra.Command{
		Use:   "suspend COMPONENT --environment ENVIRONMENT --tags TAG",
		Short: "Scale tags without traffic to zero; their overlays stay",
		Long: `Takes tags off the list, so that they are scaled to zero. Their overlays stay:
"deploy --tag" and "traffic set" list them again, "traffic remove" removes them.

` + trafficOptionsHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeTraffic(c.Context(), args[0], o, func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.SuspendTags(t, o.environment, args[0], tags)
			})
		},
	}
	o.addFlags(c)
	c.Flags().StringSliceVar(&tags, "tags", nil, "`tags` to scale to zero")
	_ = c.MarkFlagRequired("tags")
	return c
}

func newTrafficRemoveCommand(a *app) *cobra.Command {
	var environment string
	var tags []string
	c := &cobra.Command{
		Use:   "remove COMPONENT --environment ENVIRONMENT --tags TAG",
		Short: "Remove the overlays of suspended tags",
		Long: `Deletes the overlays of tags that are not listed, and with them what is left of
the tags in the cluster. A tag that is listed is refused: suspend it first. No
request moves, so this is a commit also where traffic changes are proposed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeRemote(c.Context(), func(t *envrepo.Tree) (envrepo.Summary, error) {
				return envrepo.RemoveTags(t, environment, args[0], tags)
			})
		},
	}
	environmentFlag(c, &environment)
	c.Flags().StringSliceVar(&tags, "tags", nil, "`tags` whose overlays are removed")
	_ = c.MarkFlagRequired("tags")
	return c
}
