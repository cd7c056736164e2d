package main

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
)

// change is one commit that changed what a release runs.
type change struct {
	Revision string         `json:"revision"`
	Time     time.Time      `json:"time"`
	Author   string         `json:"author"`
	Message  string         `json:"message"`
	State    []releaseState `json:"deployments"`
}

// releaseState is what a release ran under one tag ("" for untagged) at a commit.
type releaseState struct {
	Tag    string `json:"tag,omitempty"`
	Build  string `json:"build,omitempty"`
	Digest string `json:"digest,omitempty"`
	Weight *int   `json:"weight,omitempty"`
}

func newHistoryCommand(a *app) *cobra.Command {
	var environment, ref string
	var limit int
	c := &cobra.Command{
		Use:   "history COMPONENT --environment ENVIRONMENT",
		Short: "List what ran in an environment: digests, weights, who, when",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			repo, err := a.openRemote(c.Context())
			if err != nil {
				return err
			}
			defer repo.Close()
			if ref == "" {
				ref = a.branch
			}
			changes, err := repo.releaseHistory(c.Context(), ref, environment, args[0], limit)
			if err != nil {
				return err
			}
			return a.print(changes, func(t *table) { historyTable(t, changes) })
		},
	}
	environmentFlag(c, &environment)
	c.Flags().StringVar(&ref, "ref", "", "start at this `commit, branch or tag` (default: the remote branch)")
	c.Flags().IntVar(&limit, "limit", 20, "show at most this many changes")
	return c
}

func historyTable(t *table, changes []change) {
	t.header("COMMIT", "TIME", "AUTHOR", "RUNS", "MESSAGE")
	for _, c := range changes {
		var runs []string
		for _, s := range c.State {
			runs = append(runs, stateText(s))
		}
		t.row(short(c.Revision), c.Time.UTC().Format("2006-01-02 15:04"), c.Author, strings.Join(runs, ", "), cut(firstLine(c.Message), 60))
	}
}

// stateText is one deployment in a few words, such as "green 3f2a9c0d41e7 10%".
func stateText(s releaseState) string {
	parts := []string{}
	if s.Tag != "" {
		parts = append(parts, s.Tag)
	}
	if s.Build != "" {
		parts = append(parts, s.Build)
	}
	if s.Weight != nil {
		parts = append(parts, fmt.Sprintf("%d%%", *s.Weight))
	}
	return strings.Join(parts, " ")
}

// releaseHistory lists the commits at which a release's digests or weights
// changed, newest first. Commits that touched its files and changed neither
// are part of the list only where nothing else is known of them: they changed
// configuration.
func (r *remoteRepository) releaseHistory(ctx context.Context, ref, environment, name string, limit int) ([]change, error) {
	head, err := r.snapshot(ref)
	if err != nil {
		return nil, err
	}
	repo, err := envrepo.Open(head)
	if err != nil {
		return nil, err
	}
	rel, err := repo.PartialRelease(environment, name)
	if err != nil {
		return nil, err
	}
	commits, err := r.History(ctx, ref, []string{path.Join(r.project, rel.Dir)}, limit)
	if err != nil {
		return nil, err
	}
	changes := []change{}
	for _, commit := range commits {
		c := change{Revision: commit.Hash, Time: commit.Time, Author: commit.Author, Message: strings.TrimSpace(commit.Message)}
		if then, err := r.releaseAt(commit, environment, name); err == nil {
			c.State = statesOf(then)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// releaseAt reads a release as of a commit. A commit whose files cannot be
// read (somebody broke them, and repaired them later) is an error that
// callers step over.
func (r *remoteRepository) releaseAt(commit gitrepo.Commit, environment, name string) (envrepo.Release, error) {
	snap, err := r.snapshot(commit.Hash)
	if err != nil {
		return envrepo.Release{}, err
	}
	repo, err := envrepo.Open(snap)
	if err != nil {
		return envrepo.Release{}, err
	}
	return repo.PartialRelease(environment, name)
}

func statesOf(rel envrepo.Release) []releaseState {
	if !rel.Tagged() {
		return []releaseState{{Build: buildID(rel.Digest), Digest: rel.Digest}}
	}
	var states []releaseState
	for _, tag := range rel.Tags {
		if tag.Broken != nil {
			continue // which digest it was meant to have nobody knows
		}
		s := releaseState{Tag: tag.Name, Build: buildID(tag.Digest), Digest: tag.Digest}
		if percent, listed := rel.Traffic.Weight(tag.Name); listed {
			s.Weight = &percent
		}
		states = append(states, s)
	}
	return states
}
