package reconciler

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// Mark remembers one object as it was applied: the hash of what was sent and the
// fingerprint of what came back. While both hold there is nothing to send.
//
// The fingerprint of an object without a generation changes with its status, too.
// Then Content tells: the hash of all of it that nobody but its owners writes.
type Mark struct {
	Rendered string
	Live     string
	Content  string // "" where the fingerprint is enough, or the content is not read
	Version  string // API version that Content is in
}

// markOf is the mark of an object that has just been applied.
func markOf(desired, live *unstructured.Unstructured) Mark {
	return markHashed(hashOf(desired), live)
}

// markHashed is markOf for an object of which the hash is known.
func markHashed(rendered string, live *unstructured.Unstructured) Mark {
	return Mark{Rendered: rendered, Live: fingerprint(live), Content: contentHash(live), Version: live.GroupVersionKind().Version}
}

// holds reports whether a live object is as it came back from its apply.
func (m Mark) holds(live *unstructured.Unstructured) bool {
	return m.Live == fingerprint(live) || m.Content != "" && m.Content == contentHash(live)
}

// renewed is the mark with the present fingerprint of an object whose content is
// what it was; false if it is not.
func (m Mark) renewed(live *unstructured.Unstructured) (Mark, bool) {
	if m.Content == "" || m.Content != contentHash(live) {
		return m, false
	}
	m.Live = fingerprint(live)
	return m, true
}

// hashOf is the hash of an object's content. Maps are encoded in the order of
// their keys, so equal objects have equal hashes.
func hashOf(object *unstructured.Unstructured) string {
	data, err := json.Marshal(object.Object)
	if err != nil {
		return "" // not JSON: matches no mark, and the API server will say so
	}
	return shortHash(data)
}

// fingerprint changes whenever somebody changes a live object, and does not when
// its controller reports status: the generation plus the metadata that no
// generation counts, or the resource version where a kind has no generation. The
// metadata of an object is enough to compute it.
func fingerprint(live metav1.Object) string {
	if live.GetGeneration() == 0 {
		return string(live.GetUID()) + "@" + live.GetResourceVersion()
	}
	// Compact as the views keep them.
	annotations := maps.Clone(cluster.CompactAnnotations(live.GetAnnotations()))
	delete(annotations, "deployment.kubernetes.io/revision") // its controller's, with every rollout
	if len(annotations) == 0 {
		annotations = nil // as before there was one
	}
	finalizers := slices.Sorted(slices.Values(live.GetFinalizers()))
	data, err := json.Marshal([]any{live.GetLabels(), annotations, live.GetOwnerReferences(), finalizers, live.GetDeletionTimestamp()})
	if err != nil {
		return live.GetResourceVersion()
	}
	return string(live.GetUID()) + "#" + strconv.FormatInt(live.GetGeneration(), 10) + "#" + shortHash(data)
}

// statusAnnotations are where autoscaling/v1 has what v2 has in the status.
var statusAnnotations = []string{"autoscaling.alpha.kubernetes.io/conditions", "autoscaling.alpha.kubernetes.io/current-metrics"}

// contentHash is the hash of an object without its status and the fields that
// change with it. It is "" for one with a generation, which needs none, and where
// only metadata is at hand: it would not see a change of the rest.
func contentHash(live *unstructured.Unstructured) string {
	if live.GetGeneration() != 0 || bare(live) || cluster.MetadataOnly(live.GroupVersionKind().GroupKind()) {
		return ""
	}
	content := maps.Clone(live.Object)
	delete(content, "status")
	if metadata, ok := content["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		for _, field := range []string{"managedFields", "resourceVersion"} {
			delete(metadata, field)
		}
		if annotations, ok := metadata["annotations"].(map[string]any); ok {
			annotations = maps.Clone(annotations)
			for _, name := range statusAnnotations {
				delete(annotations, name)
			}
			if metadata["annotations"] = annotations; len(annotations) == 0 {
				delete(metadata, "annotations") // as before there was one
			}
		}
		content["metadata"] = metadata
	}
	return hashOf(&unstructured.Unstructured{Object: content})
}

// bare reports whether an object has nothing but metadata, as a view gives it.
func bare(live *unstructured.Unstructured) bool {
	for field := range live.Object {
		if field != "apiVersion" && field != "kind" && field != "metadata" {
			return false
		}
	}
	return true
}

func shortHash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}
