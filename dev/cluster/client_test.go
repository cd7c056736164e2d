package cluster

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// lateMapper knows its kind only after having been reset so often.
type lateMapper struct {
	meta.RESTMapper
	missing int
}

func (m *lateMapper) Reset() { m.missing-- }

func (m *lateMapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	if m.missing > 0 {
		return nil, &meta.NoKindMatchError{GroupKind: kind, SearchedVersions: versions}
	}
	return &meta.RESTMapping{GroupVersionKind: kind.WithVersion(versions[0])}, nil
}

func TestMappingOfWhatWasJustDefined(t *testing.T) {
	class := schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "GatewayClass"}
	late := &lateMapper{missing: 2}
	c := &client{mapper: late, defined: map[schema.GroupVersionKind]bool{class: true}}
	mapping, err := c.mapping(t.Context(), class)
	if err != nil || mapping.GroupVersionKind != class {
		t.Errorf("a kind that is listed late: %v, %v", mapping, err)
	}
	late.missing = 2
	if _, err := c.mapping(t.Context(), schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Unknown"}); !meta.IsNoMatchError(err) {
		t.Errorf("a kind that nobody has defined: %v", err)
	}
	if late.missing != 2 {
		t.Error("a kind that nobody has defined was waited for")
	}
}
