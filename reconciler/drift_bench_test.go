package reconciler_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sluice-dev/sluice/reconciler"
)

// BenchmarkDrift is the time from somebody's write until a watch of theirs sees
// the object as it was declared.
func BenchmarkDrift(b *testing.B) {
	cases := map[string]struct {
		resource schema.GroupVersionResource
		kind     string
		name     string
		spoil    func(d *drift)
		right    func(*unstructured.Unstructured) bool
	}{
		"changed field": {schema.GroupVersionResource{Version: "v1", Resource: "services"}, "Service", "api",
			func(d *drift) {
				d.patch("somebody", "Service", "api", `{"spec":{"ports":[{"port":80,"targetPort":"admin"}]}}`)
			},
			func(o *unstructured.Unstructured) bool {
				ports, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
				return ports[0].(map[string]any)["targetPort"] == "http"
			}},
		"deleted object": {schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "ConfigMap", "api-one",
			func(d *drift) {
				require.NoError(d.t, d.api.Delete(context.Background(), d.ref("ConfigMap", "api-one")))
			},
			func(*unstructured.Unstructured) bool { return true }},
		"planted field": {schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "ConfigMap", "api-one",
			func(d *drift) { d.patch("kubectl-edit", "ConfigMap", "api-one", `{"data":{"planted":"yes"}}`) },
			func(o *unstructured.Unstructured) bool {
				_, planted, _ := unstructured.NestedString(o.Object, "data", "planted")
				return !planted
			}},
	}
	for name, c := range cases {
		b.Run(name, func(b *testing.B) {
			clock := clocktesting.NewFakeClock(time.Now())
			d := newDrift(b, func(f *fixture) files { return project(f.namespace) }, func(config *reconciler.Config) { config.Clock = clock })
			clients, err := dynamic.NewForConfig(d.config)
			require.NoError(b, err)
			w, err := clients.Resource(c.resource).Namespace(d.namespace).Watch(context.Background(), metav1.ListOptions{FieldSelector: "metadata.name=" + c.name})
			require.NoError(b, err)
			defer w.Stop()
			for b.Loop() {
				c.spoil(d)
				spoiled := false
				for e := range w.ResultChan() {
					o, ok := e.Object.(*unstructured.Unstructured)
					require.True(b, ok, "the watch ended")
					right := e.Type != watch.Deleted && c.right(o)
					if spoiled && right {
						break
					}
					spoiled = spoiled || !right
				}
				clock.Step(pauseBetween) // so many would be a fight
			}
		})
	}
}

// pauseBetween is long enough for corrections not to count as a fight.
const pauseBetween = 2 * time.Minute
