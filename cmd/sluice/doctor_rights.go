package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/deploy/manifests"
	"github.com/sluice-dev/sluice/reconciler"
)

// right is something that may be done in a cluster.
type right struct {
	namespace   string // "": everywhere, or of what has none
	group       string
	resource    string
	subresource string
	name        string
	verb        string
}

func (r right) attributes() *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{Namespace: r.namespace, Verb: r.verb, Group: r.group, Resource: r.resource, Subresource: r.subresource, Name: r.name}
}

// object is what the right is to, in kubectl's words, after its namespace and a slash
// if it has one.
func (r right) object() string {
	text := r.resource
	if r.group != "" {
		text += "." + r.group
	}
	if r.subresource != "" {
		text += "/" + r.subresource
	}
	if r.name != "" {
		text += " " + r.name
	}
	if r.namespace != "" {
		text = r.namespace + "/" + text
	}
	return text
}

// rights are the combinations of verbs with something.
func rights(of right, verbs ...string) (list []right) {
	for _, verb := range verbs {
		of.verb = verb
		list = append(list, of)
	}
	return list
}

// controllerRights are what a controller does itself: everything of install's Roles,
// which a test keeps equal. home is the namespace of its Lease, "" for none.
func controllerRights(home string, environments []reconciler.EnvironmentConfig) []right {
	var list []right
	if home != "" {
		lease := right{namespace: home, group: "coordination.k8s.io", resource: "leases"}
		list = append(list, rights(lease, "create")...)
		lease.name = manifests.Controller
		list = append(list, rights(lease, "get", "update")...)
	}
	for _, resource := range []string{"gateways", "gatewayclasses"} {
		list = append(list, rights(right{group: gatewayKind.Group, resource: resource}, "get")...)
	}
	for _, e := range environments {
		list = append(list, rights(right{resource: "namespaces", name: e.Namespace}, "get", "list", "watch")...)
		list = append(list, rights(right{namespace: e.Namespace, group: "sluice.dev", resource: "releases"}, "get", "list", "watch", "create", "patch", "delete")...)
		list = append(list, rights(right{namespace: e.Namespace, group: "sluice.dev", resource: "releases", subresource: "status"}, "patch")...)
		list = append(list, rights(right{namespace: e.Namespace, group: "events.k8s.io", resource: "events"}, "create", "get", "patch")...)
		if account, namespace, ok := serviceAccountOf(e.User); ok {
			list = append(list, rights(right{namespace: namespace, resource: "serviceaccounts", name: account}, "impersonate")...)
		}
	}
	return list
}

// serviceAccountOf is the service account that a user name is of.
func serviceAccountOf(user string) (name, namespace string, ok bool) {
	parts := strings.Split(user, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" {
		return "", "", false
	}
	return parts[3], parts[2], true
}

// usedResource is a resource that an environment uses, and the names of its objects.
type usedResource struct {
	schema.GroupVersionResource
	names []string
}

// applierRights are what is done in an environment with the kinds that it uses.
func applierRights(namespace string, resources []usedResource) []right {
	list := rights(right{namespace: namespace, resource: "pods"}, "list")
	list = append(list, rights(right{namespace: namespace, group: "discovery.k8s.io", resource: "endpointslices"}, "list", "watch")...)
	for _, r := range resources {
		switch of := (right{namespace: namespace, group: r.Group, resource: r.Resource}); of.resource {
		case "namespaces": // only its own, and never made or deleted
			of.name = namespace
			list = append(list, rights(of, "get", "patch")...)
		case "resourcequotas", "limitranges": // install grants changes of those it names only
			list = append(list, rights(of, "get", "list", "watch", "create")...)
			for _, of.name = range r.names {
				list = append(list, rights(of, "patch", "delete")...)
			}
		default:
			list = append(list, rights(of, "get", "list", "watch", "create", "patch", "delete")...)
		}
	}
	return list
}

// examineRights asks for every right that the controller and its service accounts need.
func (d *doctor) examineRights(ctx context.Context) {
	d.examineRightsOf(ctx, d.account, controllerRights(d.home, d.serves))
	for _, e := range d.serves {
		n := d.needs[e.Name]
		if n == nil {
			continue
		}
		var resources []usedResource
		for _, gvk := range n.kinds {
			if r, known := d.client.Resource(gvk); known {
				resources = append(resources, usedResource{r, n.names[gvk]})
			}
		}
		d.examineRightsOf(ctx, cmp.Or(e.User, d.account), applierRights(e.Namespace, resources))
	}
}

func (d *doctor) examineRightsOf(ctx context.Context, user string, needed []right) {
	subject := "this process"
	if name, namespace, ok := serviceAccountOf(user); ok {
		subject = "ServiceAccount " + namespace + "/" + name
	}
	missing, err := lacking(ctx, d.config, user, needed)
	switch {
	case err != nil:
		d.failed("rights", subject, withHint(fmt.Errorf("asking for its rights: %w", err), "who asks must be allowed to impersonate it; a cluster administrator is"))
	case len(missing) > 0:
		d.failed("rights", subject, withHint(errors.New("it may not "+describeRights(missing)), "give it these rights by a Role; sluice install prints those of the controller and a usual one for the repository"))
	default:
		d.ok("rights", subject, "it has all %d that are needed", len(needed))
	}
}

// lacking asks the API server which of the rights a user does not have. The user is
// impersonated for it, as in the work itself.
func lacking(ctx context.Context, config *rest.Config, user string, needed []right) (missing []right, err error) {
	config = rest.CopyConfig(config)
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user}
	}
	client, err := authorizationclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	allowed := make([]bool, len(needed))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, r := range needed {
		group.Go(func() error {
			review, err := client.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: r.attributes()},
			}, metav1.CreateOptions{})
			if err == nil {
				allowed[i] = review.Status.Allowed
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, r := range needed {
		if !allowed[i] {
			missing = append(missing, r)
		}
	}
	return missing, nil
}

// describeRights names rights by namespace, and in each those of the same verbs
// together.
func describeRights(list []right) string {
	var objects, namespaces, texts []string
	verbs, places := map[string][]string{}, map[string]string{}
	for _, r := range list {
		o := r.object()
		if !slices.Contains(objects, o) {
			objects = append(objects, o)
		}
		places[o] = r.namespace
		verbs[o] = append(verbs[o], r.verb)
		if !slices.Contains(namespaces, r.namespace) {
			namespaces = append(namespaces, r.namespace)
		}
	}
	for _, namespace := range namespaces {
		var order []string
		same := map[string][]string{}
		for _, o := range objects {
			if places[o] != namespace {
				continue
			}
			what := strings.Join(verbs[o], ", ")
			if same[what] == nil {
				order = append(order, what)
			}
			same[what] = append(same[what], strings.TrimPrefix(o, namespace+"/"))
		}
		for i, what := range order {
			order[i] = what + " " + strings.Join(same[what], ", ")
		}
		text := strings.Join(order, "; ")
		if namespace != "" {
			text += " in namespace " + namespace
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}
