package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

func leaseSpec(renewed time.Time, seconds int32) coordinationv1.LeaseSpec {
	holder := "one"
	return coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &metav1.MicroTime{Time: renewed}}
}

func TestKeeps(t *testing.T) {
	now := fixedNow()
	held := func(ago time.Duration, seconds int32) *coordinationv1.Lease {
		return &coordinationv1.Lease{Spec: leaseSpec(now.Add(-ago), seconds)}
	}
	tests := []struct {
		name  string
		lease *coordinationv1.Lease
		want  string
	}{
		{"held", held(time.Second, 15), ""},
		{"a restart", held(leaseGrace, 15), ""},
		{"the clock there is ahead", held(-time.Minute, 15), ""},
		{"dead", held(leaseGrace+15*time.Second, 15), "no controller has kept it up to date since 2026-11-21T09:57:45Z, when lease sluice-system/shop was last renewed"},
		{"dead for long", held(72*time.Hour, 15), "no controller has kept it up to date since 2026-11-18T10:00:00Z, when lease sluice-system/shop was last renewed"},
		{"given up in good order", held(leaseGrace+time.Second, 1), "no controller has kept it up to date since 2026-11-21T09:57:59Z, when lease sluice-system/shop was last renewed"},
		{"one that claims to stand for ever", held(2*time.Hour, 1<<30), "no controller has kept it up to date since 2026-11-21T08:00:00Z, when lease sluice-system/shop was last renewed"},
		{"gone", nil, "nobody holds the lease sluice-system/shop by which its controller is known to live"},
		{"never held", &coordinationv1.Lease{}, "nobody holds the lease sluice-system/shop by which its controller is known to live"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, keeps("sluice-system/shop", tt.lease, now)) })
	}
}

// TestHealthFromReleases: a Release counts when it is of this repository, project and
// environment, and when its controller lives.
func TestHealthFromReleases(t *testing.T) {
	t.Parallel()
	config, namespace := testcluster.Start(t), testcluster.Namespace(t)
	client, err := cluster.New(config)
	require.NoError(t, err)
	leases, err := coordination.NewForConfig(config)
	require.NoError(t, err)
	now := time.Now().Truncate(time.Second)
	for name, renewed := range map[string]time.Time{"alive": now, "dead": now.Add(-time.Hour)} {
		_, err := leases.Leases(namespace).Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: leaseSpec(renewed, 15)}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	stamp := now.Add(-time.Hour).UTC().Format(time.RFC3339)
	tests := []struct {
		name    string
		spec    v1alpha1.ReleaseSpec
		unknown string // "": it is known to be ready
	}{
		{"alive", v1alpha1.ReleaseSpec{Lease: namespace + "/alive"}, ""},
		{"alone", v1alpha1.ReleaseSpec{}, ""},
		{"dead", v1alpha1.ReleaseSpec{Lease: namespace + "/dead"}, "no controller has kept it up to date since " + stamp + ", when lease " + namespace + "/dead was last renewed"},
		{"gone", v1alpha1.ReleaseSpec{Lease: namespace + "/gone"}, "nobody holds the lease " + namespace + "/gone by which its controller is known to live"},
		{"foreign", v1alpha1.ReleaseSpec{Repository: repositoryIdentity("https://git.example.com/books/environments")},
			"release foreign in namespace " + namespace + " is of a project shop in another repository"},
		{"ours", v1alpha1.ReleaseSpec{Repository: repositoryIdentity("git@git.example.com:shop/environments.git")}, ""},
		{"books", v1alpha1.ReleaseSpec{Project: "books"}, "release books in namespace " + namespace + ` is of project "books"`},
		{"elsewhere", v1alpha1.ReleaseSpec{Environment: "production"}, "release elsewhere in namespace " + namespace + ` is of environment "production"`},
	}
	project := envrepo.Project{Name: "shop", Environments: []envrepo.Environment{{Name: "staging", Namespace: namespace}}}
	releases := &clusterReleases{client: client, leases: map[string]leaseRead{}}
	health := clusterHealth{releases, nil, project, repositoryIdentity("https://git.example.com/shop/environments"), func() time.Time { return now }}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := v1alpha1.ReleaseSpec{Project: "shop", Environment: "staging", Component: tt.name, Lease: tt.spec.Lease, Repository: tt.spec.Repository}
			if tt.spec.Project != "" {
				spec.Project = tt.spec.Project
			}
			if tt.spec.Environment != "" {
				spec.Environment = tt.spec.Environment
			}
			made, err := client.CreateRelease(t.Context(), &v1alpha1.Release{
				TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.ReleaseKind},
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: tt.name}, Spec: spec,
			}, "test")
			require.NoError(t, err)
			after := made.DeepCopy()
			after.Status.ObservedGeneration = made.Generation
			after.Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, ObservedGeneration: made.Generation,
				LastTransitionTime: metav1.NewTime(now), Message: "as declared",
			}}
			_, err = client.PatchReleaseStatus(t.Context(), made, after, "test")
			require.NoError(t, err)

			report, err := health.Release(t.Context(), "staging", tt.name)
			require.NoError(t, err)
			if tt.unknown != "" {
				assert.Equal(t, promotion.HealthReport{Message: tt.unknown}, report)
				return
			}
			assert.True(t, report.Known)
			assert.True(t, report.Ready)
		})
	}
	t.Run("of a controller itself", func(t *testing.T) {
		d := &duties{served: []string{"staging"}, known: project.Environments, reported: map[reconciler.Key]bool{}}
		now := clusterNow{d, health}
		report, err := now.Release(t.Context(), "staging", "dead")
		require.NoError(t, err)
		assert.Equal(t, promotion.HealthReport{Message: "the controller has started and not looked at it yet"}, report)
		d.reported[reconciler.Key{Environment: "staging", Release: "dead"}] = true
		report, err = now.Release(t.Context(), "staging", "dead")
		require.NoError(t, err)
		assert.True(t, report.Ready, "its own lease is none of its concern")

		d.served = nil
		report, err = now.Release(t.Context(), "staging", "dead")
		require.NoError(t, err)
		assert.False(t, report.Known)
		assert.True(t, d.unknown, "it is asked for again though nothing happens")
	})
}
