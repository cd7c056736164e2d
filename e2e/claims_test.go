//go:build e2e && linux

package e2e

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// split is the weights of the tags of component api as the command takes them.
func split(blue int) (tags string, weights map[string]int) {
	return fmt.Sprintf("blue=%d,green=%d", blue, 100-blue), map[string]int{"blue": blue, "green": 100 - blue}
}

// TestSplit: the requests are split as the commit says.
func TestSplit(t *testing.T) {
	w := shared
	for _, blue := range []int{90, 50, 99} {
		t.Run(fmt.Sprint(blue), func(t *testing.T) {
			tags, weights := split(blue)
			l := startLoad(t, "api")
			at := w.traffic(t, "api", tags)
			at = at.Add(l.awaitChange(t, at, weights))
			w.settled(t, "api")
			l.enough(t, at)
			l.stop()
			answers := l.since(at)
			share := 100 * float64(countTags(answers)["blue"]) / float64(len(answers))
			assert.LessOrEqual(t, math.Abs(share-float64(blue)), 1.0, "blue has %.2f %% of the requests", share)
			w.lossless(t, fmt.Sprintf("split %d/%d", blue, 100-blue), answers, "%.2f %% / %.2f %%", share, 100-share)
		})
	}
}

// TestWeightChanges: many changes in a row, none of which a request notices.
func TestWeightChanges(t *testing.T) {
	w := shared
	start := 100
	tags, weights := split(start)
	l := startLoad(t, "api")
	l.awaitChange(t, w.traffic(t, "api", tags), weights)
	w.settled(t, "api")
	begin := time.Now()
	var times []time.Duration
	changes := []int{90, 75, 50, 25, 10, 0, 20, 40, 60, 80, 100, 50, 0, 100, 30, 70, 45, 85, 15, 95}
	for _, blue := range changes {
		tags, weights := split(blue)
		times = append(times, l.awaitChange(t, w.traffic(t, "api", tags), weights))
	}
	l.enough(t, begin)
	l.stop()
	w.lossless(t, fmt.Sprintf("%d weight changes in a row", len(changes)), l.since(begin),
		"from the commit to the changed split: median %s, longest %s", seconds(median(times)), seconds(longest(times)))
}

func longest(times []time.Duration) (d time.Duration) {
	for _, t := range times {
		d = max(d, t)
	}
	return d
}

// TestPromoteAndBack: `traffic promote` moves everything, and again, back.
func TestPromoteAndBack(t *testing.T) {
	w := shared
	tags, weights := split(100)
	l := startLoad(t, "api")
	l.awaitChange(t, w.traffic(t, "api", tags), weights)
	w.settled(t, "api")
	begin := time.Now()
	var times []time.Duration
	for _, blue := range []int{0, 100} {
		_, weights := split(blue)
		times = append(times, l.awaitChange(t, w.sluice(t, "traffic", "promote", "api", "--environment", environment), weights))
		w.settled(t, "api")
	}
	l.enough(t, begin)
	l.stop()
	w.lossless(t, "`traffic promote`, and back", l.since(begin), "from the commit to the last answer of the other tag: %s and %s", seconds(times[0]), seconds(times[1]))
}

// TestRollingUpdate: a new digest replaces the pods of an untagged release. Its
// pods sleep before they stop, as they must on any gateway: the next test shows
// why.
func TestRollingUpdate(t *testing.T) {
	w := shared
	w.settled(t, "web")
	l := startLoad(t, "web")
	l.await(t, window)
	at := w.deploy(t, "web", "dddd00000000")
	w.awaitDigest(t, l, at, "dddd00000000")
	w.settled(t, "web")
	took := time.Since(at)
	l.await(t, max(perSecond*10, Enough-l.count()))
	w.lossless(t, "rolling update of an untagged release", l.stop(), "3 pods replaced in %s", seconds(took))
}

// TestRollingUpdateWithoutHook is what it is measured against: pods that stop as
// soon as they are told, while the gateway still sends to them.
func TestRollingUpdateWithoutHook(t *testing.T) {
	w := shared
	w.edit(t, "web: no preStop hook", func(dir string) {
		removeLines(t, filepath.Join(dir, "components", "web", "deployment.yaml"), "preStop")
	})
	w.settled(t, "web")
	l := startLoad(t, "web")
	l.await(t, window)
	at := w.deploy(t, "web", "dddd11111111")
	w.awaitDigest(t, l, at, "dddd11111111")
	w.lossy(t, "the same rolling update, of pods without a preStop hook", l.stop(), "the gateway still sends to pods that have ended")
}

// awaitDigest waits until all requests of a while are answered by a digest.
func (w *world) awaitDigest(t *testing.T, l *load, after time.Time, digest string) {
	t.Helper()
	require.True(t, within(patience, func() bool {
		answers := l.since(after)
		if len(answers) < window {
			return false
		}
		for _, a := range answers[len(answers)-window:] {
			if a.digest != digest {
				return false
			}
		}
		return true
	}), "digest %s never got all requests", digest)
}

func removeLines(t *testing.T, file, containing string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var kept []string
	for line := range strings.Lines(string(data)) {
		if !strings.Contains(line, containing) {
			kept = append(kept, line)
		}
	}
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(kept, "")), 0o644))
}

// TestConversion: an untagged release gets tags, and loses them again. Its pods
// have no hook: what was before stays until it has been left.
func TestConversion(t *testing.T) {
	w := shared
	w.settled(t, "page")
	l := startLoad(t, "page")
	l.await(t, window)
	tagged := w.sluice(t, "component", "tag", "page", "--environment", environment, "--tags", "blue,green", "--commit")
	there := l.awaitChange(t, tagged, map[string]int{"blue": 100})
	w.settled(t, "page")
	require.True(t, within(patience, func() bool { return w.pods.running("page") == 0 }), "the pods without a tag stay")
	untagged := w.edit(t, "page: no tags", func(dir string) { w.run(t, "git", "-C", dir, "revert", "-n", "HEAD") })
	back := l.awaitChange(t, untagged, map[string]int{"": 100})
	w.settled(t, "page")
	require.True(t, within(patience, func() bool { return w.pods.running("page-blue") == 0 }), "the pods of tag blue stay")
	l.await(t, max(perSecond*3, Enough-l.count()))
	w.lossless(t, "an untagged release gets tags, and loses them again", l.stop(), "%s there, %s back, from the commit to the last answer of the old pods", seconds(there), seconds(back))
}

// TestRetire: a tag that is taken off the list is scaled down after it has been
// left, though its pods stop as soon as they are told. They have no hook.
func TestRetire(t *testing.T) {
	w := shared
	l := w.retire(t)
	l.await(t, max(perSecond*5, Enough-l.count()))
	answers := l.stop()

	// Autoscaler and disruption budget leave it there: longer than the interval in
	// which the autoscaler looks, which is 15 seconds.
	const watched = 35 * time.Second
	generation := w.get(t, deployments, "api-green").GetGeneration()
	for begin := time.Now(); time.Since(begin) < watched; time.Sleep(time.Second) {
		require.Zero(t, w.pods.running("api-green"), "the retired tag has pods again")
	}
	assert.Equal(t, generation, w.get(t, deployments, "api-green").GetGeneration(), "somebody has written to the Deployment of the retired tag")
	assert.Nil(t, w.get(t, autoscalers, "api-green"), "the autoscaler of the retired tag")
	assert.NotNil(t, w.get(t, autoscalers, "api-blue"), "the autoscaler of the other tag")
	assert.NotNil(t, w.get(t, budgets, "api-green"), "the disruption budget of the retired tag")
	w.settled(t, "api")
	w.lossless(t, "scale-down of a tag that had half of the requests", answers, "no pod is left, and none comes back in %.0f s", watched.Seconds())
}

// TestRetireWithoutDrain is what it is measured against.
func TestRetireWithoutDrain(t *testing.T) {
	w := shared
	w.setDrain(t, "0s")
	w.lossy(t, "the same scale-down with `drain: 0s`", w.retire(t).stop(), "pods end before the gateway has taken in the new route")
}

// retire takes tag green off the list, under a load that it has half of, and
// returns when its pods have gone.
func (w *world) retire(t *testing.T) *load {
	t.Helper()
	tags, weights := split(50)
	l := startLoad(t, "api")
	l.awaitChange(t, w.traffic(t, "api", tags), weights)
	w.settled(t, "api")
	at := w.traffic(t, "api", "blue=100")
	l.awaitChange(t, at, map[string]int{"blue": 100})
	require.True(t, within(patience, func() bool { return w.pods.running("api-green") == 0 }), "the pods of tag green stay")
	l.await(t, perSecond*3) // what is lost at the end is seen too
	return l
}

// TestRelist: a tag that is listed again gets its share only when as many of its
// pods are ready as the share takes. Blue does the whole with six.
func TestRelist(t *testing.T) {
	w := shared
	l := startLoad(t, "api")
	l.awaitChange(t, w.traffic(t, "api", "blue=100"), map[string]int{"blue": 100})
	require.True(t, within(patience, func() bool { return w.pods.running("api-green") == 0 }), "the pods of tag green stay")
	w.scale(t, "api-blue", 6)
	begin := time.Now()
	tags, weights := split(50)
	took := l.awaitChange(t, w.traffic(t, "api", tags), weights)
	l.enough(t, begin)
	l.stop()
	fewest := 100
	for _, a := range l.since(begin) {
		if a.lost == "" && a.tag == "green" {
			fewest = min(fewest, a.ready)
		}
	}
	assert.GreaterOrEqual(t, fewest, 3, "tag green answered with %d pods ready", fewest)
	w.lossless(t, "a retired tag gets half again, of what 6 pods do", l.since(begin),
		"at the first of its requests %d of its pods were ready, %s after the commit", fewest, seconds(took))
}

// scale does what an autoscaler does, and waits for the pods.
func (w *world) scale(t *testing.T, name string, replicas int64) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec": {"replicas": %d}}`, replicas)
	_, err := w.objects.Resource(deployments).Namespace(namespace).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kube-controller-manager"}, "scale")
	require.NoError(t, err)
	require.True(t, within(patience, func() bool {
		ready, _, _ := unstructured.NestedInt64(w.get(t, deployments, name).Object, "status", "readyReplicas")
		return ready == replicas
	}), "%s never has %d pods ready", name, replicas)
}

// TestLeaveBrokenTag: everything of a tag fails that has half of the requests,
// and what was to replace it cannot be pulled. The commit that leaves it moves
// the requests all the same.
func TestLeaveBrokenTag(t *testing.T) {
	w := shared
	tags, weights := split(50)
	l := startLoad(t, "api")
	l.awaitChange(t, w.traffic(t, "api", tags), weights)
	w.settled(t, "api")
	w.deploy(t, "api", "bad000000000", "--tag", "green")
	t.Cleanup(func() { w.deploy(t, "api", "eeee00000000", "--tag", "green") })
	t.Cleanup(w.pods.crash("api-green"))
	require.True(t, within(patience, func() bool { n, _ := losses(l.since(time.Now().Add(-2 * time.Second))); return n > 0 }), "the crash of tag green hurts nobody")
	tags, weights = split(100)
	at := w.traffic(t, "api", tags)
	l.enough(t, at.Add(l.awaitChange(t, at, weights)))
	l.await(t, 2*window)
	l.stop()
	took := l.awaitChange(t, at, weights) // once more: what was sent as the split changed may have been answered late
	begin := at.Add(took)
	before, _ := losses(l.since(at))
	require.Positive(t, before, "the tag hurt nobody any more when it was left")
	assert.Less(t, took, 15*time.Second, "leaving the broken tag took long")
	w.lossless(t, "after a broken tag that had half of the requests was left", l.since(begin), "all good %s after the commit that leaves it", seconds(took))
}
