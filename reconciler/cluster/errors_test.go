package cluster

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

func TestExplainAndPermanent(t *testing.T) {
	c := &Client{server: "https://cluster:6443"}
	resource := schema.GroupResource{Resource: "configmaps"}
	tests := []struct {
		name      string
		err       error
		text      string
		hint      bool
		permanent bool
	}{
		{"unknown kind", &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "Thing"}}, `reading a: no matches for kind "Thing" in group ""`, true, true},
		{"forbidden", apierrors.NewForbidden(resource, "a", errors.New("no")), `reading a: cluster https://cluster:6443 refuses: configmaps "a" is forbidden: no`, true, true},
		{"credentials", apierrors.NewUnauthorized("who"), "reading a: cluster https://cluster:6443 refuses: who", true, true},
		{"invalid", apierrors.NewBadRequest("wrong"), "reading a: wrong", false, true},
		{"busy", apierrors.NewTooManyRequests("slow down", 1), "reading a: slow down", false, false},
		{"conflict", apierrors.NewConflict(resource, "a", errors.New("changed")), `reading a: Operation cannot be fulfilled on configmaps "a": changed`, false, false},
		{"internal", apierrors.NewInternalError(errors.New("etcd")), "reading a: Internal error occurred: etcd", false, false},
		{"too late", context.DeadlineExceeded, "cluster https://cluster:6443 does not answer: reading a: context deadline exceeded", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := c.explain(tt.err, "reading %s", "a")
			assert.EqualError(t, err, tt.text)
			var h interface{ Hint() string }
			assert.Equal(t, tt.hint, errors.As(err, &h) && h.Hint() != "")
			assert.Equal(t, tt.permanent, Permanent(err))
			assert.ErrorIs(t, err, tt.err)
		})
	}
}

func TestServerNameHasNoCredentials(t *testing.T) {
	for host, want := range map[string]string{
		"https://admin:secret@cluster:6443":      "https://cluster:6443",
		"https://cluster/k8s/clusters/c1?t=abcd": "https://cluster/k8s/clusters/c1",
		"%":                                      "(unnamed)",
	} {
		assert.Equal(t, want, serverName(host))
	}
}

func TestPingTellsAServerThatIsNoKubernetesFromOneThatRefuses(t *testing.T) {
	status := http.StatusUnauthorized
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer server.Close()
	c, err := New(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	var access *AccessError
	require.ErrorAs(t, c.Ping(context.Background()), &access)
	assert.Contains(t, access.Hint(), "credentials")

	server.Close()
	var unreachable *UnreachableError
	require.ErrorAs(t, c.Ping(context.Background()), &unreachable)
}
