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
)

// Mark remembers one object as it was applied: the hash of what was sent and the
// fingerprint of what came back. While both hold there is nothing to send.
type Mark struct {
	Rendered string
	Live     string
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
	annotations := maps.Clone(live.GetAnnotations())
	delete(annotations, "deployment.kubernetes.io/revision") // its controller's, with every rollout
	finalizers := slices.Sorted(slices.Values(live.GetFinalizers()))
	data, err := json.Marshal([]any{live.GetLabels(), annotations, live.GetOwnerReferences(), finalizers, live.GetDeletionTimestamp()})
	if err != nil {
		return live.GetResourceVersion()
	}
	return string(live.GetUID()) + "#" + strconv.FormatInt(live.GetGeneration(), 10) + "#" + shortHash(data)
}

func shortHash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}
