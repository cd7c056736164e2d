package cluster

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// seen is a view of Services, and what it has told.
type seen struct {
	*View
	told []string
}

func newSeen() *seen {
	s := &seen{}
	s.View = newView(schema.GroupVersionKind{Version: "v1", Kind: "Service"}, WatchOptions{
		Index: "of", Foreign: []string{"kubectl-edit"},
		Event: func(m *Metadata, deleted bool) {
			text := m.Name + "@" + m.ResourceVersion
			if deleted {
				text = "-" + text
			}
			s.told = append(s.told, text)
		},
	})
	return s
}

func (s *seen) tells() []string {
	told := s.told
	s.told = nil
	return told
}

func object(name, version, of string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", ResourceVersion: version, Labels: map[string]string{"of": of}}}
}

func TestViewIsKnownFromItsFirstListOn(t *testing.T) {
	v := newSeen()
	_, _, ok := v.Find("a")
	assert.False(t, ok, "nothing is absent before the list has come")
	assert.False(t, v.Synced())
	require.NoError(t, v.Replace([]any{object("a", "3", "x"), object("b", "4", "x")}, "9"))
	v.Wait(context.Background())
	assert.True(t, v.Synced())
	assert.ElementsMatch(t, []string{"a@3", "b@4"}, v.tells())
	a, _, ok := v.Find("a")
	require.True(t, ok)
	assert.Equal(t, "3", a.ResourceVersion)
	none, upTo, ok := v.Find("c")
	assert.True(t, ok)
	assert.Nil(t, none)
	assert.Equal(t, "9", upTo)

	v.fail()
	_, _, ok = v.Find("a")
	assert.False(t, ok, "nor while the watch is broken off")
	v.resume()
	_, _, ok = v.Find("a")
	assert.True(t, ok)
}

func TestViewFollowsChanges(t *testing.T) {
	v := newSeen()
	require.NoError(t, v.Replace([]any{object("a", "3", "x")}, "9"))
	v.tells()
	require.NoError(t, v.Add(object("b", "10", "x")))
	require.NoError(t, v.Update(object("a", "11", "y")))
	require.NoError(t, v.Update(object("a", "11", "y")))
	assert.Equal(t, []string{"b@10", "a@11"}, v.tells(), "what is known already is not told again")
	of := func(value string) (names []string) {
		found, ok := v.Labelled(value)
		assert.True(t, ok)
		for _, m := range found {
			names = append(names, m.Name)
		}
		return names
	}
	assert.Equal(t, []string{"b"}, of("x"))
	assert.Equal(t, []string{"a"}, of("y"))

	require.NoError(t, v.Delete(object("b", "12", "x")))
	assert.Equal(t, []string{"-b@12"}, v.tells())
	assert.Empty(t, of("x"))
	_, upTo, _ := v.Find("b")
	assert.Equal(t, "12", upTo, "a deletion counts from its own version on")
	v.UpdateResourceVersion("20")
	_, upTo, _ = v.Find("b")
	assert.Equal(t, "20", upTo)
}

func TestViewCatchesUpWithWhatItMissed(t *testing.T) {
	v := newSeen()
	require.NoError(t, v.Replace([]any{object("kept", "1", ""), object("changed", "2", ""), object("gone", "3", "")}, "9"))
	v.tells()
	require.NoError(t, v.Replace([]any{object("kept", "1", ""), object("changed", "12", ""), object("new", "13", "")}, "20"))
	assert.ElementsMatch(t, []string{"changed@12", "new@13", "-gone@20"}, v.tells())
}

func TestViewKeepsNoSecrets(t *testing.T) {
	v := newSeen()
	o := object("a", "1", "")
	o.Annotations = map[string]string{
		lastApplied:          `{"data":{"token":"hunter2"}}`,
		"large":              strings.Repeat("x", largeAnnotation+1),
		"sluice.dev/traffic": strings.Repeat("y", largeAnnotation+1),
		"small":              "as it is",
	}
	o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl-edit"}}
	require.NoError(t, v.Add(o))
	m := v.objects["a"]
	assert.True(t, m.Foreign)
	assert.Empty(t, m.ManagedFields)
	assert.Regexp(t, "^sha256:[0-9a-f]{32}$", m.Annotations[lastApplied])
	assert.Regexp(t, "^sha256:[0-9a-f]{32}$", m.Annotations["large"])
	assert.Len(t, m.Annotations["sluice.dev/traffic"], largeAnnotation+1, "ours are read")
	assert.Equal(t, "as it is", m.Annotations["small"])
	assert.Equal(t, m.Annotations, CompactAnnotations(m.Annotations), "once is enough")

	o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl-edit", Subresource: "status"}, {Manager: "sluice"}}
	require.NoError(t, v.Update(o))
	assert.False(t, v.objects["a"].Foreign)
}

func TestNewer(t *testing.T) {
	for _, tt := range []struct {
		a, b      string
		newer, ok bool
	}{
		{"10", "9", true, true}, {"9", "10", false, true}, {"9", "9", false, true},
		{"", "9", false, false}, {"9", "x", false, false}, {"0", "9", false, false},
	} {
		newer, ok := Newer(tt.a, tt.b)
		assert.Equal(t, tt.ok, ok, tt)
		assert.Equal(t, tt.newer, newer && ok, tt)
	}
}
