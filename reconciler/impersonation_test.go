package reconciler_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/internal/testcluster"
	"github.com/sluice-dev/sluice/reconciler"
)

const applier = "applier"

func userOf(namespace string) string { return "system:serviceaccount:" + namespace + ":" + applier }

// rule is a rule of a role.
func rule(group, resources string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resources}, Verbs: verbs}
}

// inNamespace makes the service account of an environment, which may do in its
// namespace what services need.
func inNamespace(t *testing.T, api client.Client, namespace string) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: applier, Namespace: namespace}
	all := []string{"get", "list", "watch", "create", "patch", "delete"}
	for _, o := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: meta},
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			rule("", "*", all...), rule("apps", "*", all...), rule("gateway.networking.k8s.io", "*", all...), rule("discovery.k8s.io", "endpointslices", all...),
		}},
		&rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: applier}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: applier}}},
	} {
		require.NoError(t, api.Create(t.Context(), o))
	}
}

// controllerConfig signs in as a controller that may do nothing itself but keep
// Releases, look at namespaces, and impersonate the service accounts of namespaces.
func controllerConfig(t *testing.T, api client.Client, namespaces ...string) *rest.Config {
	t.Helper()
	admin := testcluster.Start(t)
	home := testcluster.Namespace(t)
	clients, err := kubernetes.NewForConfig(admin)
	require.NoError(t, err)
	account := metav1.ObjectMeta{Name: "sluice", Namespace: home}
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "sluice", Namespace: home}}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: home}, Rules: []rbacv1.PolicyRule{
		rule("sluice.dev", "*", "get", "list", "watch", "create", "patch", "delete"), rule("", "namespaces", "get", "list", "watch"),
	}}
	for _, o := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: account}, role,
		&rbacv1.ClusterRoleBinding{ObjectMeta: role.ObjectMeta, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: home}, Subjects: subject},
	} {
		require.NoError(t, api.Create(t.Context(), o))
		if o.GetNamespace() == "" {
			t.Cleanup(func() { _ = clients.RbacV1().ClusterRoles().Delete(t.Context(), home, metav1.DeleteOptions{}) })
		}
	}
	for _, namespace := range namespaces {
		only := rule("", "serviceaccounts", "impersonate")
		only.ResourceNames = []string{applier}
		meta := metav1.ObjectMeta{Name: "sluice", Namespace: namespace}
		require.NoError(t, api.Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{only}}))
		require.NoError(t, api.Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "sluice"}, Subjects: subject}))
	}
	token, err := clients.CoreV1().ServiceAccounts(home).CreateToken(t.Context(), "sluice", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	config := rest.AnonymousClientConfig(admin)
	config.BearerToken = token.Status.Token
	return config
}

// asUser is an engine of a namespace whose objects are written as a user.
func (f *fixture) asUser(controller *rest.Config, user string) *reconciler.Engine {
	return f.newEngine(func(c *reconciler.Config) {
		c.REST = controller
		c.Environments = []reconciler.EnvironmentConfig{{Name: "production", Namespace: f.namespace, User: user}}
	})
}

// TestAttackBeyondTheServiceAccount, on the API server's own RBAC: an environment can do
// all that a service needs, and neither touch another environment's namespace nor give
// itself rights, whatever its folder says. Escapes from impersonation were Fleet
// CVE-2026-41050 and CVE-2026-44935.
func TestAttackBeyondTheServiceAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := testcluster.Namespace(t)
	inNamespace(t, f.api, f.namespace)
	inNamespace(t, f.api, other)
	controller := controllerConfig(t, f.api, f.namespace, other)

	f.engine = f.asUser(controller, userOf(f.namespace))
	f.ready(project(f.namespace))

	// Drift is seen by watches of the same user, and corrected.
	stop := f.run()
	require.NoError(t, f.api.Delete(t.Context(), f.get("ConfigMap", "api-one")))
	f.eventually("a deleted object comes back", func() bool { return f.get("ConfigMap", "api-one") != nil })
	stop()

	// A role that it does not have itself cannot be given by its folder.
	more := "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: api}\nrules: [{apiGroups: [\"*\"], resources: [\"*\"], verbs: [\"*\"]}]\n"
	s := statusOf(t, f.apply(project(f.namespace).with(files{"environments/production/api/config.yaml": more})), "api")
	assert.Equal(t, reconciler.StateFailed, s.State)
	assert.Contains(t, s.Message, `User "`+userOf(f.namespace)+`" cannot`)
	assert.Contains(t, s.Hint, "are read and written as "+userOf(f.namespace))
	assert.Equal(t, v1alpha1.ReasonApplyFailed, s.Reason)

	// An environment that is configured to be in another one's namespace, were the
	// guard of the render passed: the API server refuses it all the same.
	astray := newFixtureIn(t, other)
	astray.engine = astray.asUser(controller, userOf(f.namespace))
	astray.branch = newBranch(project(other))
	s = statusOf(t, astray.apply(project(other)), "api")
	assert.Equal(t, reconciler.StateFailed, s.State)
	assert.Contains(t, s.Message, `cannot`)
	assert.Nil(t, astray.get("Deployment", "api"))

	// Who may not be impersonated is not.
	f.engine = f.asUser(controller, "system:serviceaccount:kube-system:default")
	s = statusOf(t, f.apply(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")})), "api")
	assert.Equal(t, reconciler.StateFailed, s.State)
	assert.Contains(t, s.Message, `cannot impersonate resource "serviceaccounts"`)
	assert.Nil(t, f.get("ConfigMap", "api-two"))
}
