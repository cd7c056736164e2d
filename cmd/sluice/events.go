package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

type eventsOptions struct {
	environments []string
	watch        bool
}

func newEventsCommand(a *app) *cobra.Command {
	var o eventsOptions
	c := &cobra.Command{
		Use:   "events [COMPONENT…]",
		Short: "Show what Kubernetes tells of releases and of their objects",
		Long: `Lists the Kubernetes Events of releases, newest last: what the controller says
of the release itself, and what the cluster says of its objects, pods among
them: why one is not scheduled, not pulled or killed. Kubernetes keeps Events
for an hour, mostly.

With --watch it stays and prints new ones as they come; with -o json one object
a line then.`,
		RunE: func(c *cobra.Command, args []string) error { return a.showEvents(c.Context(), args, o) },
	}
	c.Flags().StringSliceVar(&o.environments, "environment", nil, "only these environments")
	c.Flags().BoolVarP(&o.watch, "watch", "w", false, "stay, and show new ones")
	return c
}

// eventView is an Event as it is printed.
type eventView struct {
	Time        time.Time `json:"time"` // when it was last seen
	Type        string    `json:"type"`
	Environment string    `json:"environment"`
	Release     string    `json:"release"`
	Object      string    `json:"object"` // KIND/NAME
	Reason      string    `json:"reason"`
	Message     string    `json:"message"`
	Count       int32     `json:"count"`

	uid, version string
}

// ownedObjects is what Events of a release are about.
type ownedObjects struct {
	environment, release, namespace string
	objects                         inventory.Set
}

// ownedBy are the objects of Releases. An inventory that cannot be read leaves the
// Release itself, whose Events say so.
func ownedBy(releases []v1alpha1.Release) []ownedObjects {
	var all []ownedObjects
	for i := range releases {
		r := &releases[i]
		objects, err := inventory.FromRelease(r)
		if err != nil {
			objects = inventory.Set{}
		}
		all = append(all, ownedObjects{r.Spec.Environment, r.Name, r.Namespace, objects})
	}
	return all
}

// concerns reports whether an Event is about the release, one of its objects, or what
// these have made.
func (o ownedObjects) concerns(e *eventsv1.Event) bool {
	about := e.Regarding
	group, _, grouped := strings.Cut(about.APIVersion, "/")
	if !grouped {
		group = ""
	}
	id := inventory.ID{Namespace: cmp.Or(about.Namespace, e.Namespace), Name: about.Name, Group: group, Kind: about.Kind}
	if id.Namespace != o.namespace {
		return false
	}
	if id.Group == v1alpha1.Group && id.Kind == v1alpha1.ReleaseKind {
		return id.Name == o.release
	}
	if _, owned := o.objects[id]; owned {
		return true
	}
	for owned := range o.objects {
		if makesPods(owned) && owned.Namespace == id.Namespace && madeBy(owned, id.Kind, id.Name) {
			return true
		}
	}
	return false
}

// viewEvents are the Events that are about the releases, oldest first.
func viewEvents(list []eventsv1.Event, owned []ownedObjects) []eventView {
	views := []eventView{}
	for i := range list {
		e := &list[i]
		at := slices.IndexFunc(owned, func(o ownedObjects) bool { return o.concerns(e) })
		if at < 0 {
			continue
		}
		v := eventView{Time: e.EventTime.Time, Type: e.Type, Environment: owned[at].environment, Release: owned[at].release,
			Object: e.Regarding.Kind + "/" + e.Regarding.Name, Reason: e.Reason, Message: e.Note, Count: max(1, e.DeprecatedCount),
			uid: string(e.UID), version: e.ResourceVersion}
		if e.DeprecatedLastTimestamp.After(v.Time) {
			v.Time = e.DeprecatedLastTimestamp.Time
		}
		if s := e.Series; s != nil {
			v.Count = max(v.Count, s.Count)
			if s.LastObservedTime.After(v.Time) {
				v.Time = s.LastObservedTime.Time
			}
		}
		if v.Time.IsZero() {
			v.Time = e.CreationTimestamp.Time
		}
		v.Time = v.Time.UTC()
		views = append(views, v)
	}
	slices.SortStableFunc(views, func(a, b eventView) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Object, b.Object), strings.Compare(a.Message, b.Message))
	})
	return views
}

// lines is an Event for people: on a terminal (width is not 0) with the message below.
func (v eventView) lines(now time.Time, width int, p paint) []string {
	when := v.Time.Format(time.RFC3339)
	if width > 0 && now.Sub(v.Time) < 24*time.Hour {
		when = v.Time.Format("15:04:05")
	}
	kind := v.Type
	switch v.Type {
	case "Warning":
		kind = p.yellow(v.Type)
	case "Normal":
		kind = v.Type + " " // as wide as the other
	}
	reason := v.Reason
	if v.Count > 1 {
		reason += fmt.Sprintf(" ×%d", v.Count)
	}
	head := fmt.Sprintf("%s %s %s/%s %s %s", p.dim(when), kind, printable(v.Environment), printable(v.Release), printable(v.Object), p.bold(printable(reason)))
	message := strings.Join(strings.Fields(printable(v.Message)), " ")
	if width == 0 {
		return []string{head + ": " + message}
	}
	const indent = 9 // of the time
	lines := []string{head}
	for _, l := range wrapped(message, max(40, width-indent)) {
		lines = append(lines, strings.Repeat(" ", indent)+l)
	}
	return lines
}

func (a *app) showEvents(ctx context.Context, names []string, o eventsOptions) error {
	releases, chosen, err := a.chosenReleases(ctx, o.environments, names)
	if err != nil {
		return err
	}
	if o.watch {
		return a.watchEvents(ctx, releases, chosen)
	}
	var list []eventsv1.Event
	for _, namespace := range namespacesOf(chosen) {
		some, _, err := releases.client.Events(ctx, namespace)
		if err != nil {
			return err
		}
		list = append(list, some...)
	}
	views := viewEvents(list, ownedBy(chosen))
	return a.print(views, func(t *table) {
		if len(views) == 0 {
			t.line("no events: Kubernetes keeps them for an hour, mostly")
		}
		for _, v := range views {
			for _, l := range v.lines(a.Now(), a.width(), a.painter(a.Stdout)) {
				t.line(l)
			}
		}
	})
}

func namespacesOf(releases []v1alpha1.Release) []string {
	var namespaces []string
	for _, r := range releases {
		if !slices.Contains(namespaces, r.Namespace) {
			namespaces = append(namespaces, r.Namespace)
		}
	}
	return namespaces
}
