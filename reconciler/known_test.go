package reconciler

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

func TestNewest(t *testing.T) {
	const configMaps, deployments = false, true // whether the content matters
	seen := func(uid, version string, foreign bool) *cluster.Metadata {
		return &cluster.Metadata{Foreign: foreign, ObjectMeta: metav1.ObjectMeta{Name: "a", UID: types.UID(uid), ResourceVersion: version}}
	}
	answered := func(version string, whole, kept bool) answer {
		a := answer{uid: "one", version: version, whole: whole}
		if kept {
			a.object = live(configMap("a", "1"), version)
			a.object.SetUID("one")
		}
		return a
	}
	mark := func(version string) Mark { return Mark{Rendered: "r", Live: "one@" + version} }
	tests := []struct {
		name   string
		seen   *cluster.Metadata
		upTo   string
		blind  bool
		kind   bool
		answer answer
		mark   Mark
		want   source
	}{
		{name: "never heard of", upTo: "9", kind: configMaps, want: nowhere},
		{name: "never heard of, and nobody watches", blind: true, kind: configMaps, want: unknown},
		{name: "somebody's", seen: seen("two", "5", false), kind: configMaps, want: inMetadata},
		{name: "kubectl's", seen: seen("two", "5", true), kind: configMaps, want: unknown},
		{name: "a workload", seen: seen("two", "5", false), kind: deployments, want: unknown},
		{name: "as applied", seen: seen("one", "5", false), kind: configMaps, answer: answered("5", false, false), mark: mark("5"), want: inMetadata},
		{name: "as applied, kept", seen: seen("one", "5", false), kind: configMaps, answer: answered("5", false, true), mark: mark("5"), want: inAnswer},
		{name: "a workload as answered", seen: seen("one", "5", false), kind: deployments, answer: answered("5", true, true), want: inAnswer},
		{name: "a workload as answered, let go", seen: seen("one", "5", false), kind: deployments, answer: answered("5", true, false), want: unknown},
		{name: "a workload that has changed", seen: seen("one", "6", false), kind: deployments, answer: answered("5", true, true), want: unknown},
		{name: "read, but not applied", seen: seen("one", "5", false), kind: configMaps, answer: answered("5", false, true), mark: mark("4"), want: unknown},
		{name: "changed", seen: seen("one", "6", false), kind: configMaps, answer: answered("5", false, false), mark: mark("5"), want: unknown},
		{name: "a write that the watch has not told of", seen: seen("one", "5", false), kind: configMaps, answer: answered("6", false, true), mark: mark("6"), want: inAnswer},
		{name: "such a write, let go", seen: seen("one", "5", false), kind: configMaps, answer: answered("6", false, false), mark: mark("6"), want: unknown},
		{name: "created, and the watch has not come so far", upTo: "5", kind: configMaps, answer: answered("6", false, true), mark: mark("6"), want: inAnswer},
		{name: "deleted", upTo: "7", kind: configMaps, answer: answered("6", false, true), mark: mark("6"), want: nowhere},
		{name: "deleted, with nothing after it", upTo: "6", kind: configMaps, answer: answered("6", false, true), mark: mark("6"), want: nowhere},
		{name: "deleted and recreated", seen: seen("two", "8", false), kind: configMaps, answer: answered("6", false, true), mark: mark("6"), want: unknown},
		{name: "longer numbers are larger", seen: seen("one", "99", false), kind: configMaps, answer: answered("100", false, true), mark: mark("100"), want: inAnswer},
		{name: "versions that are no numbers", seen: seen("one", "x2", false), kind: configMaps, answer: answered("x1", false, true), mark: mark("x1"), want: unknown},
		{name: "the same one that is no number", seen: seen("one", "x1", false), kind: configMaps, answer: answered("x1", false, true), mark: mark("x1"), want: inAnswer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, newest(tt.seen, tt.upTo, !tt.blind, tt.kind, tt.answer, tt.mark))
		})
	}
}

func TestFingerprintLeavesARolloutAlone(t *testing.T) {
	d := live(deployment("api", "one", 1), "1")
	d.SetGeneration(1)
	before := fingerprint(d)
	d.SetResourceVersion("2")
	d.SetAnnotations(map[string]string{"deployment.kubernetes.io/revision": "1"})
	assert.Equal(t, before, fingerprint(d), "the first annotation of all is the controller's")
	d.SetAnnotations(map[string]string{"deployment.kubernetes.io/revision": "1", "a": "b"})
	assert.NotEqual(t, before, fingerprint(d))
}

func TestPriorities(t *testing.T) {
	r := newReleaseMemory(Key{"production", "api"})
	r.want.hash = "one"
	r.ranked(rankBulk, "50:50")
	assert.Equal(t, rankBulk, r.priority())
	r.passed = "one"
	assert.Equal(t, rankStatus, r.priority(), "applied: the others come first")
	r.ranked(rankChange, "0:100")
	assert.Equal(t, rankTraffic, r.priority())
	r.ranked(rankBulk, "0:100")
	assert.Equal(t, rankTraffic, r.priority(), "until it is settled")
	r.finished(want{hash: "one"}, Verdict{State: StateReady, Ready: true}, Status{})
	r.recheck()
	assert.Equal(t, rankResync, r.priority())
	r.hurry()
	assert.Equal(t, rankChange, r.priority())
}

func TestOwnWritesAreNoReason(t *testing.T) {
	ours := live(configMap("ours", "1"), "5")
	r := newReleaseMemory(Key{"production", "api"})
	r.want.hash = "h"
	r.work(true)
	assert.Equal(t, noticeNow, r.event(sighted(ours, false)), "nobody knows while the pass is on its way")
	r.remember(sighted(ours, false).id, markOf(ours, ours))
	id := sighted(ours, false).id
	r.keep(map[inventory.ID]*unstructured.Unstructured{id: ours}, map[inventory.ID]bool{id: true})
	r.work(false)
	due, _, _ := r.due(start)
	assert.False(t, due, "though it is not settled")
	assert.Equal(t, noticeNone, r.event(sighted(ours, false)))
	assert.Equal(t, noticeNow, r.event(sighted(live(ours, "6"), false)))
	due, _, _ = r.due(start)
	assert.True(t, due)
	due, _, _ = r.due(start)
	assert.True(t, due, "a timer, or a retry")
}

// Of a release that is not settled its objects are kept, until a watch tells what makes
// them superfluous: before the end of the pass that made them, mostly.
func TestObjectsThatAWatchHasToldOfAreLetGo(t *testing.T) {
	workload, config := live(deployment("api", "one", 1), "5"), live(configMap("api", "1"), "5")
	tests := []struct {
		name                     string
		versions                 []string // that a watch tells of
		keepsWorkload, keepsRest bool
	}{
		{name: "nothing", keepsWorkload: true, keepsRest: true},
		{name: "something older", versions: []string{"4"}, keepsWorkload: true, keepsRest: true},
		{name: "what was answered", versions: []string{"4", "5"}, keepsWorkload: true},
		{name: "something newer", versions: []string{"6"}},
		{name: "what cannot be compared", versions: []string{"x"}, keepsWorkload: true, keepsRest: true},
	}
	for _, tt := range tests {
		for _, during := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, while a pass is on its way: %t", tt.name, during), func(t *testing.T) {
				r := newReleaseMemory(Key{"production", "api"})
				r.want.hash = "not settled"
				all := map[inventory.ID]*unstructured.Unstructured{}
				for _, o := range []*unstructured.Unstructured{workload, config} {
					all[inventory.IDOf(o)] = o
				}
				tell := func() {
					for _, version := range tt.versions {
						for _, o := range all {
							r.event(sighted(live(o, version), false))
						}
					}
				}
				if r.work(true); during {
					tell()
				}
				r.keep(all, nil)
				if r.work(false); !during {
					tell()
				}
				assert.Equal(t, tt.keepsWorkload, r.answered(inventory.IDOf(workload)).object != nil)
				assert.Equal(t, tt.keepsRest, r.answered(inventory.IDOf(config)).object != nil)
				assert.Equal(t, "5", r.answered(inventory.IDOf(workload)).version)
			})
		}
	}
}
