package inventory_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

func set(entries ...string) inventory.Set {
	s := inventory.Set{}
	for _, e := range entries {
		id, err := inventory.ParseID(e)
		if err != nil {
			panic(err)
		}
		s[id] = "v1"
	}
	return s
}

func TestIDSurvivesItsTextForm(t *testing.T) {
	for _, id := range []inventory.ID{
		{Namespace: "shop", Name: "api", Group: "apps", Kind: "Deployment"},
		{Namespace: "shop", Name: "api", Kind: "Service"},
		{Name: "shop", Kind: "Namespace"},
		{Namespace: "shop", Name: "system:api_reader", Group: "rbac.authorization.k8s.io", Kind: "Role"},
		{Namespace: "shop", Name: "_", Kind: "Role"},
	} {
		got, err := inventory.ParseID(id.String())
		require.NoError(t, err)
		assert.Equal(t, id, got)
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{"", "_", "__", "___", "shop", "shop_api", "shop_api_apps", "shop__apps_Deployment", "shop_api_apps_"} {
		_, err := inventory.ParseID(s)
		assert.Error(t, err, s)
	}
}

func TestSetOperations(t *testing.T) {
	web, api, old := "ns_web_apps_Deployment", "ns_api_apps_Deployment", "ns_old__ConfigMap"
	tests := []struct {
		name               string
		have, want         inventory.Set
		union, gone, grown inventory.Set
		covers             bool
	}{
		{"first", set(), set(web), set(web), set(), set(web), false},
		{"same", set(web, api), set(api, web), set(web, api), set(), set(), true},
		{"replaced", set(web, old), set(web, api), set(web, api, old), set(old), set(api), false},
		{"shrunk", set(web, api, old), set(web), set(web, api, old), set(api, old), set(), true},
		{"emptied", set(web), set(), set(web), set(web), set(), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.union, tt.have.Union(tt.want))
			assert.Equal(t, tt.gone, tt.have.Minus(tt.want))
			assert.Equal(t, tt.grown, tt.want.Minus(tt.have))
			assert.Equal(t, tt.covers, tt.have.Covers(tt.want))
		})
	}
}

func TestUnionTakesTheNewerVersion(t *testing.T) {
	have, want := set("ns_api_autoscaling_HorizontalPodAutoscaler"), set("ns_api_autoscaling_HorizontalPodAutoscaler")
	for id := range want {
		want[id] = "v2"
	}
	assert.Equal(t, want, have.Union(want))
	assert.True(t, have.Covers(want), "another version is not another object")
	assert.False(t, have.Equal(want))
}

func TestStatusIsSortedAndReadsBack(t *testing.T) {
	s := inventory.Of(
		object("v1", "Service", "web"),
		object("apps/v1", "Deployment", "web"),
		object("v1", "ConfigMap", "web"),
	)
	status := s.Status()
	assert.Equal(t, &v1alpha1.Inventory{Entries: []v1alpha1.ResourceRef{
		{ID: "ns_web__ConfigMap", Version: "v1"},
		{ID: "ns_web__Service", Version: "v1"},
		{ID: "ns_web_apps_Deployment", Version: "v1"},
	}}, status)
	back, err := inventory.FromStatus(status)
	require.NoError(t, err)
	assert.True(t, s.Equal(back))
	assert.Nil(t, inventory.Set{}.Status())
}

func TestFromStatusRefusesHalfAnInventory(t *testing.T) {
	_, err := inventory.FromStatus(&v1alpha1.Inventory{Entries: []v1alpha1.ResourceRef{{ID: "ns_web__Service", Version: "v1"}, {ID: "web"}}})
	assert.EqualError(t, err, `inventory entry "web" is not namespace_name_group_kind`)
}

func FuzzParseID(ff *testing.F) {
	f := mutants.New(ff)
	for _, s := range []string{"ns_web_apps_Deployment", "_shop__Namespace", "ns_system:api_reader_rbac.authorization.k8s.io_Role", "____", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := inventory.ParseID(s)
		if err == nil && id.String() != s {
			t.Errorf("%q reads as %+v, which writes as %q", s, id, id.String())
		}
	})
}

func object(apiVersion, kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetNamespace("ns")
	u.SetName(name)
	return u
}

func TestFromRelease(t *testing.T) {
	set := inventory.Set{{Namespace: "shop", Name: "api", Group: "apps", Kind: "Deployment"}: "v1", {Namespace: "shop", Name: "api", Kind: "Service"}: "v1"}
	release := &v1alpha1.Release{}
	read := func() inventory.Set {
		got, err := inventory.FromRelease(release)
		require.NoError(t, err)
		return got
	}
	assert.Empty(t, read())
	require.True(t, set.Announce(release))
	assert.Equal(t, set, read(), "as it was announced, before the first report")

	release.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady}}
	assert.Empty(t, read(), "what was reported counts, even if it is nothing")
	release.Status.Conditions = nil
	one := inventory.Set{{Namespace: "shop", Name: "api", Kind: "Service"}: "v1"}
	release.Status.Inventory = one.Status()
	assert.Equal(t, one, read())

	for _, text := range []string{"{", `{"entries":[{"id":"nonsense","v":"v1"}]}`} {
		release = &v1alpha1.Release{}
		release.Annotations = map[string]string{v1alpha1.AnnotationIntent: text}
		_, err := inventory.FromRelease(release)
		assert.Error(t, err, "half an inventory is none: %s", text)
	}

	large := inventory.Set{}
	for i := range 5000 {
		large[inventory.ID{Namespace: "shop", Name: fmt.Sprintf("config-%d", i), Kind: "ConfigMap"}] = "v1"
	}
	release = &v1alpha1.Release{}
	assert.False(t, large.Announce(release), "it would not fit")
	assert.Empty(t, release.Annotations)
}

// What is read of an annotation that anybody may write is an inventory, or an error;
// announced again, it reads the same.
func FuzzIntent(ff *testing.F) {
	f := mutants.New(ff)
	for _, s := range []string{`{"entries":[{"id":"ns_web_apps_Deployment","v":"v1"},{"id":"ns_web__Service","v":"v1"}]}`, `{"entries":null}`, `null`, `[]`, `{"entries":[{"id":"____"}]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		release := &v1alpha1.Release{}
		release.Annotations = map[string]string{v1alpha1.AnnotationIntent: text}
		set, err := inventory.FromRelease(release)
		if err != nil {
			assert.Empty(t, set)
			return
		}
		again := &v1alpha1.Release{}
		if !set.Announce(again) {
			return
		}
		same, err := inventory.FromRelease(again)
		require.NoError(t, err)
		assert.True(t, set.Equal(same), "%v is announced as %v", set, same)
	})
}
