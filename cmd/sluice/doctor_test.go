package main

import (
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/deploy/crds"
	"github.com/sluice-dev/sluice/reconciler"
)

// granted are the rights that the installed roles of an account give.
func granted(t *testing.T, named map[string]*unstructured.Unstructured, account string) (list []right) {
	t.Helper()
	for _, o := range named {
		if !strings.HasSuffix(o.GetKind(), "RoleBinding") {
			continue
		}
		var binding rbacv1.RoleBinding
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &binding))
		if binding.Subjects[0].Name != account {
			continue
		}
		role, namespace := named[binding.RoleRef.Kind+" "+binding.RoleRef.Name], ""
		if binding.RoleRef.Kind == "Role" {
			role, namespace = named["Role "+o.GetNamespace()+"/"+binding.RoleRef.Name], o.GetNamespace()
		}
		require.NotNil(t, role, objectName(o))
		var rules rbacv1.Role
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(role.Object, &rules))
		for _, rule := range rules.Rules {
			list = append(list, rightsOf(namespace, rule)...)
		}
	}
	require.NotEmpty(t, list)
	return list
}

func rightsOf(namespace string, rule rbacv1.PolicyRule) (list []right) {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, name := range names {
				resource, subresource, _ := strings.Cut(resource, "/")
				list = append(list, rights(right{namespace: namespace, group: group, resource: resource, subresource: subresource, name: name}, rule.Verbs...)...)
			}
		}
	}
	return list
}

// TestControllerRightsAreTheInstalledOnes: what doctor asks for is what install grants
// the controller, all of it and nothing else.
func TestControllerRightsAreTheInstalledOnes(t *testing.T) {
	t.Parallel()
	named := byName(t, printed(t, append(exampleInstall[:5:5], "--environment", "staging=shop-staging")...))
	assert.ElementsMatch(t, granted(t, named, "sluice-controller"), controllerRights("sluice-system", []reconciler.EnvironmentConfig{
		{Name: "production", Namespace: "shop-production", User: "system:serviceaccount:shop-production:sluice-applier"},
		{Name: "staging", Namespace: "shop-staging", User: "system:serviceaccount:shop-staging:sluice-applier"},
	}))
	for _, r := range granted(t, named, "sluice-applier") {
		assert.Contains(t, []string{"shop-production", "shop-staging"}, r.namespace)
		assert.NotContains(t, []string{"sluice.dev", "rbac.authorization.k8s.io", "*"}, r.group)
		assert.NotEqual(t, "*", r.resource)
		assert.NotEqual(t, "*", r.verb)
	}
}

// TestApplierRights: what install grants a repository suffices for the environment that
// a scaffold writes, and for no quota of another name.
func TestApplierRights(t *testing.T) {
	t.Parallel()
	core := func(resource string, names ...string) usedResource {
		return usedResource{schema.GroupVersionResource{Version: "v1", Resource: resource}, names}
	}
	have := granted(t, byName(t, printed(t, exampleInstall...)), "sluice-applier")
	assert.Subset(t, have, applierRights("shop-production", []usedResource{
		core("namespaces", "shop-production"), core("resourcequotas", "environment"), core("limitranges", "environment"), core("serviceaccounts", "default"),
		{schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}, []string{"default-deny"}},
	}))
	var lacking []right
	for _, r := range applierRights("shop-production", []usedResource{core("resourcequotas", "environment", "ceiling"), core("limitranges", "ceiling")}) {
		if !slices.Contains(have, r) {
			lacking = append(lacking, r)
		}
	}
	assert.Equal(t, "patch, delete resourcequotas ceiling, limitranges ceiling in namespace shop-production", describeRights(lacking))
}

func TestJudgeClock(t *testing.T) {
	t.Parallel()
	now := fixedNow()
	for name, tc := range map[string]struct {
		theirs time.Duration
		want   string
	}{
		"the same":         {0, ""},
		"a little":         {20 * time.Second, ""},
		"ahead":            {5 * time.Minute, "it is 5m0s ahead of this machine's"},
		"behind":           {-5 * time.Minute, "it is 4m59s behind this machine's"},
		"behind, a little": {-20 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, err := http.ParseTime(now.Add(tc.theirs).Format(http.TimeFormat))
			require.NoError(t, err)
			err = judgeClock(theirs, now, now)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
			assert.NotEmpty(t, hints(err))
		})
	}
	// A slow answer is no skew: theirs may be from any moment of the request.
	assert.NoError(t, judgeClock(now.Add(time.Minute), now, now.Add(2*time.Minute)))
}

func TestJudgeClass(t *testing.T) {
	t.Parallel()
	class := func(accepted string, features ...string) *unstructured.Unstructured {
		var list []any
		for _, f := range features {
			list = append(list, map[string]any{"name": f})
		}
		o := manifest("gateway.networking.k8s.io/v1", "GatewayClass", "", "edge", nil)
		o.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Accepted", "status": accepted}}, "supportedFeatures": list}
		return o
	}
	for _, tc := range []struct {
		class   *unstructured.Unstructured
		mirrors int
		want    string
	}{
		{class("True"), 0, ""},
		{class("False"), 0, "no gateway controller has accepted GatewayClass edge"},
		{manifest("gateway.networking.k8s.io/v1", "GatewayClass", "", "edge", nil), 0, "no gateway controller has accepted"},
		{class("True"), 1, "does not declare HTTPRouteRequestPercentageMirror"},
		{class("True", "HTTPRouteRequestPercentageMirror"), 1, ""},
		{class("True", "HTTPRouteRequestPercentageMirror"), 2, "does not declare HTTPRouteRequestMultipleMirrors"},
		{class("True", "HTTPRouteRequestMultipleMirrors", "HTTPRouteRequestPercentageMirror"), 2, ""},
	} {
		err := judgeClass(tc.class, tc.mirrors)
		if tc.want == "" {
			assert.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, tc.want)
		assert.NotEmpty(t, hints(err))
	}
}

func TestKeepers(t *testing.T) {
	t.Parallel()
	release := func(name, project, repository, lease string) v1alpha1.Release {
		return v1alpha1.Release{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop-production"},
			Spec:       v1alpha1.ReleaseSpec{Project: project, Repository: repository, Environment: "production", Lease: lease},
		}
	}
	leases, err := keepers([]v1alpha1.Release{release("api", "shop", "r1", "a/b"), release("web", "shop", "", "a/b"), release("db", "shop", "r1", "")}, "r1", "shop", "production")
	require.NoError(t, err)
	assert.Equal(t, []string{"a/b"}, leases)
	_, err = keepers([]v1alpha1.Release{release("api", "shop", "r1", "a/b"), release("web", "shop", "r1", "c/d")}, "r1", "shop", "production")
	require.ErrorContains(t, err, "several controllers, which hold the leases a/b, c/d")
	for _, stranger := range []v1alpha1.Release{release("api", "other", "r1", ""), release("api", "shop", "r2", "")} {
		_, err = keepers([]v1alpha1.Release{stranger}, "r1", "shop", "production")
		require.ErrorContains(t, err, "another project or repository")
	}
	_, err = keepers([]v1alpha1.Release{release("api", "shop", "r1", "")}, "r1", "shop", "staging")
	require.ErrorContains(t, err, "another project or repository")
	_, err = keepers([]v1alpha1.Release{release("api", "shop", "r1", "")}, "", "", "production")
	require.NoError(t, err, "a repository that cannot be read accuses nobody")
}

func TestSameDefinition(t *testing.T) {
	t.Parallel()
	list, err := objects(crds.Release)
	require.NoError(t, err)
	require.NoError(t, sameDefinition(list[0]))
	versions, _, _ := unstructured.NestedSlice(list[0].Object, "spec", "versions")
	columns := versions[0].(map[string]any)["additionalPrinterColumns"].([]any)
	versions[0].(map[string]any)["additionalPrinterColumns"] = columns[1:]
	require.NoError(t, unstructured.SetNestedSlice(list[0].Object, versions, "spec", "versions"))
	require.ErrorContains(t, sameDefinition(list[0]), "another version of Sluice")
}

// TestSecretsOf: doctor finds what an installation mounts in its own manifests.
func TestSecretsOf(t *testing.T) {
	t.Parallel()
	named := byName(t, printed(t, append(exampleInstall[:5:5], "--git-secret", "git", "--age-key-secret", "production=age", "--webhook-secret", "hook", "--mount-secret", "more", "--", "--verify-key", "/etc/sluice/secrets/more/signers")...))
	assert.ElementsMatch(t, []mountedSecret{{"git", []string{"token"}}, {"age", []string{"age.agekey"}}, {"hook", []string{"secret"}}, {"more", []string{"signers"}}},
		secretsOf(named["Deployment sluice-system/sluice-controller"]))
	named = byName(t, printed(t, "install", "--repo", "git@git.example.com:shop/environments.git", "--environment", "a=b", "--git-secret", "git"))
	assert.Equal(t, []mountedSecret{{"git", []string{"ssh-privatekey", "known_hosts"}}}, secretsOf(named["Deployment sluice-system/sluice-controller"]))
}

func TestDescribeRights(t *testing.T) {
	t.Parallel()
	list := rights(right{namespace: "a", resource: "secrets"}, "get", "list")
	list = append(list, rights(right{namespace: "b", group: "apps", resource: "deployments"}, "get")...)
	list = append(list, rights(right{namespace: "a", resource: "serviceaccounts", name: "applier"}, "impersonate")...)
	list = append(list, rights(right{namespace: "a", group: "apps", resource: "deployments"}, "get", "list")...)
	list = append(list, rights(right{group: "sluice.dev", resource: "releases", subresource: "status"}, "patch")...)
	assert.Equal(t, "get, list secrets, deployments.apps; impersonate serviceaccounts applier in namespace a; get deployments.apps in namespace b; patch releases.sluice.dev/status", describeRights(list))
}

// TestEveryFailureHasARemedy: its own, or the usual one of its check.
func TestEveryFailureHasARemedy(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("doctor*.go")
	require.NoError(t, err)
	checks := map[string]bool{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, call := range regexp.MustCompile(`\bd\.failed\("(\w+)"`).FindAllStringSubmatch(string(source), -1) {
			checks[call[1]] = true
		}
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(checks)), slices.Collect(maps.Keys(remedies)))
	d := &doctor{}
	d.failed("clock", "", errors.New("late"))
	d.failed("clock", "", withHint(errors.New("late"), "wind it up"))
	assert.Equal(t, remedies["clock"], d.found[0].Remedy)
	assert.Equal(t, "wind it up", d.found[1].Remedy)
}
