package reconciler

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

func TestInventoryThatDoesNotFit(t *testing.T) {
	t.Parallel()
	var objects []*unstructured.Unstructured
	for i := range 5000 {
		objects = append(objects, configMap(fmt.Sprintf("%04d-%s", i, strings.Repeat("x", 240)), "1"))
	}
	w := newWorld(t)
	w.untagged("sha256:one", objects[:4000]...)
	assert.Contains(t, firstOf(w.pass()), "record intent\n")
	data, err := json.Marshal(w.in.Last.Status.Inventory)
	require.NoError(t, err)
	size := w.in.Inventory.Size()
	assert.InDelta(t, len(data), size, 100, "the size is what it takes")

	w.commit(2)
	w.untagged("sha256:one", objects...)
	equal(t, `
release api in production, namespace shop, revision c00000000000
nothing to do
report Failed ApplyFailed: the inventory of 5000 objects takes 1367 KiB, and a Release has room for 1280 KiB: nothing is applied
again in 1m0s
`, w.pass())
	assert.Equal(t, inventory.Of(objects[:4000]...), w.in.Inventory)
	assert.Equal(t, "split the release, or shorten the names of its objects", hintFor(&w.in, Decide(w.in).Verdict, nil))
}
