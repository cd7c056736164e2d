package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// heldDeletion is a deletion that waits to be acknowledged: one token, of all
// releases of an environment that have a part in it.
type heldDeletion struct {
	Environment string        `json:"environment"`
	Token       string        `json:"token"`
	Message     string        `json:"message"`
	Releases    []heldRelease `json:"releases"`
	Command     string        `json:"command"` // that acknowledges it
}

// heldRelease is how many objects of a release would be deleted.
type heldRelease struct {
	Release string `json:"release"`
	Objects int    `json:"objects"`
}

// heldDeletions are what the Releases of a project report as held, by environment.
// While a commit is being taken in, some may still name the token before.
func heldDeletions(releases []v1alpha1.Release) []heldDeletion {
	var held []heldDeletion
	for _, r := range releases {
		h := r.Status.Held
		if h == nil {
			continue
		}
		at := slices.IndexFunc(held, func(d heldDeletion) bool { return d.Environment == r.Spec.Environment && d.Token == h.Token })
		if at < 0 {
			at = len(held)
			held = append(held, heldDeletion{Environment: r.Spec.Environment, Token: h.Token, Message: h.Message,
				Command: acknowledgeCommand(r.Spec.Environment, h.Token)})
		}
		held[at].Releases = append(held[at].Releases, heldRelease{r.Name, h.Objects})
	}
	for _, d := range held {
		slices.SortFunc(d.Releases, func(a, b heldRelease) int { return cmp.Compare(a.Release, b.Release) })
	}
	slices.SortFunc(held, func(a, b heldDeletion) int {
		return cmp.Or(cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Token, b.Token))
	})
	return held
}

func acknowledgeCommand(environment, token string) string {
	return fmt.Sprintf("sluice prune acknowledge %s --environment %s", token, environment)
}

// String is the deletion in one line.
func (d heldDeletion) String() string {
	parts := make([]string, len(d.Releases))
	for i, r := range d.Releases {
		parts[i] = fmt.Sprintf("%s %d", r.Release, r.Objects)
	}
	return fmt.Sprintf("%s: held: %s (%s)", d.Environment, d.Message, strings.Join(parts, ", "))
}

// hint is what to do about it.
func (d heldDeletion) hint() string {
	return "take the commit back, or allow exactly this deletion: " + d.Command
}
