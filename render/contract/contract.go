// Package contract tells whether a workload would see the configuration that its
// component, or the build about to run, says it needs.
//
// Call Check with the rendered objects of a release, or of one of its tags
// together with what the tags share. It needs no key: only the names in
// ConfigMaps and Secrets count, so objects rendered with placeholders in place of
// encrypted values do. Schema.Check judges plain values as well, and never those of
// Secrets. The package reads no cluster, and nothing of a value gets into what it
// returns.
package contract

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
)

// Missing is a required name that a container would not see, or of which that
// cannot be told.
type Missing struct {
	Key       string
	Component string
	Workload  string // kind namespace/name, container name; "" when no container uses the image
	Reason    string
	Hint      string
	// Add: adding the key to the configuration is what helps; see Remedy.
	Add bool
	// Unknown: the name may come from an object that is created elsewhere (by an
	// operator, by hand). Worth a warning; only Missing without it is an error.
	Unknown bool
}

func (m Missing) String() string {
	where := "component " + m.Component
	if m.Workload != "" {
		where = m.Workload
	}
	return fmt.Sprintf("%s: %s: %s", where, m.Key, m.Reason)
}

// Check returns, for each container of a workload that runs the component's
// image, the required names it would not see: as an environment variable (env,
// envFrom) or as a file (a key of a mounted ConfigMap or Secret, by its file
// name). Required is what the component requires and what the build does (nil:
// no record). Init containers are left out, as they run one step of their own,
// unless they keep running as sidecars. Hidden are files that change the objects in a
// way that nobody knows (render.Result.Opaque): with one, all that is missing is
// Unknown. The result is sorted by workload, then in the order of the contract.
func Check(objects []*unstructured.Unstructured, component envrepo.Component, build *envrepo.Contract, hidden ...string) []Missing {
	required := slices.Clone(component.Config.Required)
	if build != nil {
		known := map[string]bool{}
		for _, key := range required {
			known[key] = true
		}
		for _, key := range build.Required {
			if !known[key] {
				required = append(required, key)
			}
		}
	}
	var missing []Missing
	containers := views(objects, component.Image)
	for _, key := range required {
		if len(containers) == 0 {
			missing = append(missing, Missing{Key: key, Component: component.Name,
				Reason: fmt.Sprintf("no container runs the image %s, so nothing can see it", component.Image),
				Hint:   "check image in component.yaml and the image of the workload's container"})
		}
		for _, v := range containers {
			if m, found := v.missing(key); found {
				m.Key, m.Component, m.Workload = key, component.Name, v.workload
				if len(hidden) > 0 && !m.Unknown {
					m.Unknown, m.Reason = true, m.Reason+", unless "+strings.Join(hidden, " or ")+" does, which is encrypted as a whole"
				}
				missing = append(missing, m)
			}
		}
	}
	slices.SortStableFunc(missing, func(a, b Missing) int { return strings.Compare(a.Workload, b.Workload) })
	return missing
}

// Keys returns the names that any container with the image sees, sorted. Names
// that may come from objects created elsewhere are not among them.
func Keys(objects []*unstructured.Unstructured, image string) []string {
	var keys []string
	for _, v := range views(objects, image) {
		for key := range v.seen {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// missing explains why the container would not see key; false when it would.
func (v view) missing(key string) (Missing, bool) {
	if reason := v.broken[key]; reason != "" {
		return Missing{Reason: reason, Hint: "add the key there, or correct the reference"}, true
	}
	if v.seen[key] {
		return Missing{}, false
	}
	for _, o := range v.outside {
		if o.provides(key) {
			return Missing{Unknown: true,
				Reason: fmt.Sprintf("it may come from %s, which is created elsewhere", o.source),
				Hint:   "make sure that it has the key, or add the key to the release's own config.env or secrets.env"}, true
		}
	}
	m := Missing{Reason: "no env, envFrom or mounted file of the container provides it", Add: true,
		Hint: fmt.Sprintf("add %s to config.env or secrets.env of the release, or to the container's env", key)}
	if reason := v.absent[key]; reason != "" {
		m.Reason = reason
	}
	if near := v.nearest(key); near != "" {
		m.Add = false
		m.Hint = fmt.Sprintf("the container sees %s: is one of the two misspelt?", near)
	}
	return m, true
}

// nearest is the seen name that key may be a misspelling of, or the other way
// round; "" when there is none. A name of which key is the start is no such one:
// PORT is not PORT_METRICS cut short.
func (v view) nearest(key string) string {
	near := envrepo.Nearest(key, v.names())
	if len(near) > len(key)+3 {
		return ""
	}
	return near
}
