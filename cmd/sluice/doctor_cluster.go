package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/deploy/crds"
)

var (
	gatewayKind      = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "Gateway"}
	gatewayClassKind = gatewayKind.GroupVersion().WithKind("GatewayClass")
)

// examineDefinition compares the cluster's definition of Release with this binary's.
func (d *doctor) examineDefinition(ctx context.Context) {
	name := releaseResource.GroupResource().String()
	crd, err := d.dynamic.Resource(crdResource).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		if _, served := d.client.Resource(v1alpha1.GroupVersion.WithKind(v1alpha1.ReleaseKind)); served {
			d.skipped("definition", name, "the cluster serves it; whether in this version's form may not be read")
			return
		}
		err = withHint(errors.New("the cluster does not serve it"), "sluice install --crds")
	case apierrors.IsNotFound(err):
		err = withHint(errors.New("the cluster does not have it"), "sluice install --crds")
	case err == nil:
		err = sameDefinition(crd)
	}
	if err != nil {
		d.failed("definition", name, err)
		return
	}
	d.ok("definition", name, "it is that of this version")
}

// sameDefinition compares the versions of a definition: their schemas and columns.
func sameDefinition(live *unstructured.Unstructured) error {
	list, err := objects(crds.Release)
	if err != nil {
		return err
	}
	want, err := versionsOf(list[0])
	if err != nil {
		return err
	}
	have, err := versionsOf(live)
	if err != nil {
		return err
	}
	if want != have {
		return withHint(errors.New("it is of another version of Sluice: fields of statuses may be lost"), "install it again with the newest version that a controller of this cluster has: sluice install --crds")
	}
	return nil
}

// versionsOf are the versions of a definition as text, the same for numbers out of
// YAML and out of an answer.
func versionsOf(crd *unstructured.Unstructured) (string, error) {
	versions, _, err := unstructured.NestedFieldNoCopy(crd.Object, "spec", "versions")
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(versions)
	return string(text), err
}

// examineKinds looks for the kinds that the repository uses.
func (d *doctor) examineKinds() {
	for _, e := range d.serves {
		n := d.needs[e.Name]
		if n == nil {
			continue
		}
		var missing []string
		for _, gvk := range n.kinds {
			if _, known := d.client.Resource(gvk); !known {
				missing = append(missing, gvk.Kind+" ("+gvk.GroupVersion().String()+")")
			}
		}
		subject := "environment " + e.Name
		if len(missing) > 0 {
			d.failed("kinds", subject, withHint(fmt.Errorf("the cluster does not know %s", strings.Join(missing, ", ")), "install the CustomResourceDefinitions, or correct apiVersion and kind"))
			continue
		}
		d.ok("kinds", subject, "the cluster knows all %d that it uses", len(n.kinds))
	}
}

// examineGateways looks whether the gateways of routes are there, accepted, and can do
// what the mirrors ask for.
func (d *doctor) examineGateways(ctx context.Context) {
	for _, e := range d.serves {
		n := d.needs[e.Name]
		if n == nil {
			continue
		}
		for _, need := range n.parents {
			if need.parent.Group != gatewayKind.Group || need.parent.Kind != gatewayKind.Kind {
				continue // a mesh's
			}
			subject := "Gateway " + need.parent.Namespace + "/" + need.parent.Name
			class, err := d.gatewayClass(ctx, e.Namespace, n, need)
			if err != nil {
				d.failed("gateways", subject, err)
				continue
			}
			if problem := judgeClass(class, need.mirrors); problem != nil {
				d.failed("gateways", subject, problem)
				continue
			}
			d.ok("gateways", subject, "its class %s is accepted", class.GetName())
		}
	}
}

// gatewayClass is the class of a gateway: of the one that the environment declares, or
// that the cluster has.
func (d *doctor) gatewayClass(ctx context.Context, namespace string, n *needs, need parentNeed) (*unstructured.Unstructured, error) {
	gateway, err := n.gateways[need.parent.Name], error(nil)
	if gateway == nil || need.parent.Namespace != namespace {
		if gateway, err = d.client.Get(ctx, gatewayKind, need.parent.Namespace, need.parent.Name); err != nil {
			return nil, err
		}
	}
	if gateway == nil {
		return nil, withHint(errors.New("routes of the environment name it, and it does not exist"), "make it, or correct parentRefs of the routes")
	}
	name, _, _ := unstructured.NestedString(gateway.Object, "spec", "gatewayClassName")
	class, err := d.client.Get(ctx, gatewayClassKind, "", name)
	if err == nil && class == nil {
		err = withHint(fmt.Errorf("its GatewayClass %s does not exist", name), "install a gateway that serves the class, or correct gatewayClassName; kubectl get gatewayclasses")
	}
	return class, err
}

// judgeClass says what a GatewayClass lacks; nil for nothing.
func judgeClass(class *unstructured.Unstructured, mirrors int) error {
	conditions, _, _ := unstructured.NestedSlice(class.Object, "status", "conditions")
	accepted := slices.ContainsFunc(conditions, func(c any) bool {
		condition, _ := c.(map[string]any)
		return condition["type"] == "Accepted" && condition["status"] == "True"
	})
	if !accepted {
		return withHint(fmt.Errorf("no gateway controller has accepted GatewayClass %s", class.GetName()), "see whether the gateway's controller runs: kubectl describe gatewayclass %s", class.GetName())
	}
	features, _, _ := unstructured.NestedSlice(class.Object, "status", "supportedFeatures")
	for _, need := range []struct {
		feature string
		wanted  bool
	}{{"HTTPRouteRequestPercentageMirror", mirrors > 0}, {"HTTPRouteRequestMultipleMirrors", mirrors > 1}} {
		declared := slices.ContainsFunc(features, func(f any) bool {
			feature, _ := f.(map[string]any)
			return feature["name"] == need.feature
		})
		if need.wanted && !declared {
			return withHint(fmt.Errorf("GatewayClass %s does not declare %s, which mirrors of traffic.yaml need", class.GetName(), need.feature), "take a gateway that supports it, or remove the mirrors; they are held back until then")
		}
	}
	return nil
}

// examineKeeping looks who keeps the environments: no other project, and a controller
// that lives.
func (d *doctor) examineKeeping(ctx context.Context) {
	releases, err := d.openReleases()
	if err != nil {
		d.failed("releases", "", err)
		return
	}
	for _, e := range d.serves {
		subject := "environment " + e.Name
		list, err := releases.client.Releases(ctx, e.Namespace)
		if err != nil {
			d.failed("releases", subject, err)
			continue
		}
		identity := ""
		if d.view != nil && d.view.git != nil {
			identity = repositoryIdentity(d.view.git.Name())
		}
		leases, err := keepers(list, identity, d.projectName(), e.Name)
		for _, lease := range leases {
			var problem string
			if err != nil {
				break
			}
			if problem, err = releases.unkept(ctx, lease, d.Now()); err == nil && problem != "" {
				err = withHint(errors.New(problem), "see whether the controller runs; its log says what keeps it from it")
			}
		}
		switch {
		case err != nil:
			d.failed("releases", subject, err)
		case len(list) == 0:
			d.ok("releases", subject, "there are none yet")
		default:
			d.ok("releases", subject, "%d are kept up to date", len(list))
		}
	}
}

// keepers are the Leases by which the controllers of Releases are known. Releases of
// another project in the namespace are an error, and so are several controllers.
func keepers(list []v1alpha1.Release, repository, project, environment string) (leases []string, err error) {
	for i := range list {
		r := &list[i]
		foreign := project != "" && r.Spec.Project != project || repository != "" && r.Spec.Repository != "" && r.Spec.Repository != repository || r.Spec.Environment != environment
		if foreign {
			return nil, withHint(fmt.Errorf("Release %s in namespace %s is of environment %s of another project or repository: %s", r.Name, r.Namespace, r.Spec.Environment, r.Spec.Project),
				"each environment has a namespace of its own; where the project has moved to another repository, see docs/adr/0010")
		}
		if r.Spec.Lease != "" && !slices.Contains(leases, r.Spec.Lease) {
			leases = append(leases, r.Spec.Lease)
		}
	}
	slices.Sort(leases)
	if len(leases) > 1 {
		return nil, withHint(fmt.Errorf("its Releases are kept by several controllers, which hold the leases %s", strings.Join(leases, ", ")),
			"end all but one, or give them one --leader-election-id in one namespace")
	}
	return leases, nil
}

// maxSkew is how far clocks may be apart: leases and the tokens of GitHub Apps bear a
// minute.
const maxSkew = 30 * time.Second

// examineClocks compares this machine's clock with those of the API server and of the
// Git host.
func (d *doctor) examineClocks(ctx context.Context) {
	if d.config != nil {
		client, err := rest.HTTPClientFor(d.config)
		if err != nil {
			d.skipped("clock", "API server", "%v", err)
		} else {
			d.examineClock(ctx, "API server", client, strings.TrimSuffix(d.config.Host, "/")+"/version")
		}
	}
	p, err := d.locate()
	if u, parseErr := url.Parse(p.remote); err == nil && parseErr == nil && (u.Scheme == "https" || u.Scheme == "http") {
		// No credentials: any answer has the time.
		d.examineClock(ctx, u.Host, &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, u.Scheme+"://"+u.Host+"/")
	}
}

func (d *doctor) examineClock(ctx context.Context, subject string, client *http.Client, address string) {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		d.skipped("clock", subject, "it cannot be asked")
		return
	}
	sent := d.Now()
	response, err := client.Do(request)
	if err != nil {
		d.skipped("clock", subject, "it does not answer")
		return
	}
	response.Body.Close()
	theirs, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		d.skipped("clock", subject, "its answers have no time")
		return
	}
	if err := judgeClock(theirs, sent, d.Now()); err != nil {
		d.failed("clock", subject, err)
		return
	}
	d.ok("clock", subject, "it agrees with this machine's to within %s", maxSkew)
}

// judgeClock says how far a clock is off that told its time, in whole seconds, between
// two moments of ours; nil when it agrees.
func judgeClock(theirs, sent, received time.Time) error {
	ahead, behind := theirs.Sub(received), sent.Sub(theirs.Add(time.Second))
	skew, word := ahead, "ahead of"
	if behind > ahead {
		skew, word = behind, "behind"
	}
	if skew <= maxSkew {
		return nil
	}
	return withHint(fmt.Errorf("it is %s %s this machine's: leases and tokens are judged by the wrong time", skew.Round(time.Second), word), "have both machines keep time, by chrony or systemd-timesyncd")
}
