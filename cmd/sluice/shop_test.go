package main

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/internal/testcluster"
)

// shop is a repository with one environment, in which people work, and its
// namespace, in which others do: components api, blue and green, web, untagged,
// and sides that come and go.
type shop struct {
	t         *testing.T
	rng       *rand.Rand
	namespace string
	bare      string
	repo      *gitrepo.Repository
	api       dynamic.Interface
	disco     *discovery.DiscoveryClient
	builds    int
	drifts    int
	commits   []string // revisions, for reverts
	strangers map[string]*unstructured.Unstructured
	meddled   map[string][]time.Time // when, by object; nil: nobody counts, as controllers die before they would
}

// draft is a commit to be made.
type draft func(t *envrepo.Tree) (message string, err error)

const image = "registry.example.com/shop/"

func newShop(t *testing.T, rng *rand.Rand) *shop {
	t.Helper()
	s := &shop{t: t, rng: rng, namespace: testcluster.Namespace(t), bare: filepath.Join(t.TempDir(), "shop.git")}
	for _, args := range [][]string{{"init", "-q", "--bare", "-b", "main", s.bare}, {"-C", s.bare, "config", "gc.auto", "0"}, {"-C", s.bare, "config", "maintenance.auto", "false"}} {
		out, err := exec.Command("git", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	var err error
	s.api, err = dynamic.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	s.disco, err = discovery.NewDiscoveryClientForConfig(testcluster.Start(t))
	require.NoError(t, err)
	s.repo, err = gitrepo.Open(t.Context(), gitrepo.Options{URL: s.bare, Branch: "main", CacheDir: t.TempDir(), Author: "Ada", Email: "ada@example.com"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.repo.Close() })
	s.commit(func(tree *envrepo.Tree) (string, error) {
		_, err := envrepo.Init(tree, "shop", []envrepo.EnvironmentSpec{{Name: "production", Namespace: s.namespace}})
		if err != nil {
			return "", err
		}
		// What is left of many commits that nobody lived to prune may be most of the
		// environment: whether that is held is tested elsewhere.
		policy := "  traffic: {drain: 1s}\n  prune: {maxShare: 100}\n"
		if err := rewrite(tree, "sluice.yaml", func(text string) string { return text + policy }); err != nil {
			return "", err
		}
		for _, name := range []string{"api", "web"} {
			if err := s.add(tree, name, s.nextDigest("")); err != nil {
				return "", err
			}
		}
		if _, err := envrepo.TagComponent(tree, "production", "api", []string{"blue", "green"}); err != nil {
			return "", err
		}
		_, err = envrepo.SetTraffic(tree, "production", "api", weights(100, 0))
		return "start", err
	})
	s.settleStrangers()
	return s
}

// add adds a component and deploys it.
func (s *shop) add(tree *envrepo.Tree, name, digest string) error {
	_, err := envrepo.AddComponent(tree, envrepo.ComponentSpec{Name: name, Image: image + name, Port: 8080, Replicas: 2, MaxReplicas: 4, Host: name + ".example.com", Gateway: "shop"})
	if err != nil {
		return err
	}
	return deploy(tree, name, "", digest)
}

func deploy(tree *envrepo.Tree, component, tag, digest string) error {
	build := envrepo.Build{Component: component, Digest: digest, CreatedAt: fixedNow()}
	if _, err := envrepo.RecordBuild(tree, build); err != nil {
		return err
	}
	_, err := envrepo.Deploy(tree, "production", component, digest, tag, false)
	return err
}

// nextDigest is one that no build has had. Its start says how its pods fare:
// "bad" cannot be pulled.
func (s *shop) nextDigest(start string) string {
	s.builds++
	if start == "" {
		start = "1"
	}
	hex := fmt.Sprintf("%s%08x", start, s.builds)
	return "sha256:" + hex + strings.Repeat("0", 64-len(hex))
}

func weights(blue, green int) envrepo.Traffic {
	return envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: blue}, {Tag: "green", Percent: green}}}
}

func rewrite(tree *envrepo.Tree, file string, edit func(string) string) error {
	data, err := tree.ReadFile(file)
	if err != nil {
		return err
	}
	return tree.WriteFile(file, []byte(edit(string(data))))
}

// draw draws the next commit. Most of them end a pause, so that there is something
// to do.
func (s *shop) draw() draft {
	d, goOn := s.drawContent(), s.rng.IntN(3) > 0
	return func(t *envrepo.Tree) (string, error) {
		if goOn {
			if err := rewrite(t, "sluice.yaml", func(text string) string { return strings.TrimSuffix(text, pausedLine) }); err != nil {
				return "", err
			}
		}
		return d(t)
	}
}

func (s *shop) drawContent() draft {
	n, tag := s.rng.IntN(1000), []string{"blue", "green"}[s.rng.IntN(2)]
	switch s.rng.IntN(10) {
	case 0:
		digest := s.nextDigest("")
		return func(t *envrepo.Tree) (string, error) { return "deploy web", deploy(t, "web", "", digest) }
	case 1, 2:
		digest := s.nextDigest([]string{"", "", "", "bad"}[s.rng.IntN(4)])
		return func(t *envrepo.Tree) (string, error) { return "deploy api as " + tag, deploy(t, "api", tag, digest) }
	case 3:
		file := []string{"environments/production/web/config.env", "environments/production/api/base/config.env"}[s.rng.IntN(2)]
		return func(t *envrepo.Tree) (string, error) {
			return "configure", t.WriteFile(file, fmt.Appendf(nil, "VALUE=%d\n", n)) // renames the generated ConfigMap
		}
	case 4, 5:
		share := s.rng.IntN(101)
		return func(t *envrepo.Tree) (string, error) {
			_, err := envrepo.SetTraffic(t, "production", "api", weights(share, 100-share))
			return "shift", err
		}
	case 6:
		only := envrepo.Traffic{Weights: []envrepo.Weight{{Tag: tag, Percent: 100}}}
		return func(t *envrepo.Tree) (string, error) {
			_, err := envrepo.SetTraffic(t, "production", "api", only)
			return "leave the other tag out", err
		}
	case 7:
		return s.toggle([]string{"side-a", "side-b"}[s.rng.IntN(2)], s.nextDigest(""))
	case 8:
		return func(t *envrepo.Tree) (string, error) {
			return "pause", rewrite(t, "sluice.yaml", func(text string) string { return strings.TrimSuffix(text, pausedLine) + pausedLine })
		}
	}
	return s.revert(1 + s.rng.IntN(3))
}

const pausedLine = "  paused: true\n"

// toggle adds a component, or removes it where it is.
func (s *shop) toggle(name, digest string) draft {
	return func(t *envrepo.Tree) (string, error) {
		if _, err := t.Stat("components/" + name); err != nil {
			return "add " + name, s.add(t, name, digest)
		}
		for _, dir := range []string{"components/" + name, "environments/production/" + name} {
			for _, file := range filesBelow(t, dir) {
				if err := t.Remove(file); err != nil {
					return "", err
				}
			}
		}
		return "remove " + name, nil
	}
}

// revert makes everything as it was some commits ago.
func (s *shop) revert(back int) draft {
	return func(t *envrepo.Tree) (string, error) {
		then, err := s.repo.Snapshot(s.commits[max(0, len(s.commits)-1-back)])
		if err != nil {
			return "", err
		}
		old := filesBelow(then, ".")
		for _, file := range filesBelow(t, ".") {
			// Records of builds stay, as they do in a revert of what used them.
			if !slices.Contains(old, file) && !strings.HasPrefix(file, "builds/") {
				if err := t.Remove(file); err != nil {
					return "", err
				}
			}
		}
		for _, file := range old {
			data, err := fs.ReadFile(then, file)
			if err != nil {
				return "", err
			}
			if err := t.WriteFile(file, data); err != nil {
				return "", err
			}
		}
		return "revert", nil
	}
}

func filesBelow(fsys fs.FS, dir string) []string {
	var files []string
	_ = fs.WalkDir(fsys, dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return nil
	})
	return files
}

// commit makes a commit. One that cannot be made, such as a weight for a tag
// that a revert has taken away, is none.
func (s *shop) commit(c draft) {
	ctx, cancel := context.WithTimeout(context.Background(), awaitTimeout)
	defer cancel()
	rev, err := s.repo.Update(ctx, "main", func(snap *gitrepo.Snapshot) (gitrepo.Edit, error) {
		tree := envrepo.NewTree(snap)
		message, err := c(tree)
		if err != nil {
			return gitrepo.Edit{}, err
		}
		return gitEdit(message, ".", tree), nil
	})
	require.NoError(s.t, err)
	s.commits = append(s.commits, rev)
}

// heal commits what lets everything become ready.
func (s *shop) heal() {
	web, blue, green := s.nextDigest(""), s.nextDigest(""), s.nextDigest("")
	s.commit(func(t *envrepo.Tree) (string, error) {
		err := rewrite(t, "sluice.yaml", func(text string) string { return strings.TrimSuffix(text, pausedLine) })
		if err != nil {
			return "", err
		}
		for _, d := range [][2]string{{"blue", blue}, {"green", green}} {
			if err := deploy(t, "api", d[0], d[1]); err != nil {
				return "", err
			}
		}
		if err := deploy(t, "web", "", web); err != nil {
			return "", err
		}
		traffic := weights(30, 70)
		if s.builds%2 == 0 {
			traffic = envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "green", Percent: 100}}}
		}
		_, err = envrepo.SetTraffic(t, "production", "api", traffic)
		return "heal", err
	})
}

// driftKinds are what drift is made in.
var driftKinds = []schema.GroupVersionResource{
	{Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "services"}, {Version: "v1", Resource: "serviceaccounts"},
	{Group: "apps", Version: "v1", Resource: "deployments"}, {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
	{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}, {Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
}

// drawMeddling draws what somebody with kubectl does to an object of ours.
func (s *shop) drawMeddling() func() {
	kind, which, del := driftKinds[s.rng.IntN(len(driftKinds))], s.rng.IntN(1000), s.rng.IntN(2) == 0
	if s.rng.IntN(3) == 0 {
		return func() {}
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), awaitTimeout)
		defer cancel()
		client := s.api.Resource(kind).Namespace(s.namespace)
		list, err := client.List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelEnvironment + "=production"})
		require.NoError(s.t, err)
		items := slices.DeleteFunc(list.Items, s.tired)
		if len(items) == 0 {
			return
		}
		target := &items[which%len(items)]
		if s.meddled != nil {
			s.meddled[nameOf(target)] = append(s.meddled[nameOf(target)], time.Now())
		}
		if del {
			err = client.Delete(ctx, target.GetName(), metav1.DeleteOptions{})
		} else {
			plant(target)
			_, err = client.Update(ctx, target, metav1.UpdateOptions{FieldManager: "kubectl-edit"})
		}
		if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			require.NoError(s.t, err)
		}
	}
}

// A controller gives way to whoever keeps changing an object: at the fifth correction in
// five minutes, and a blow may be counted twice.
const (
	mostMeddled   = 2
	meddledWithin = 5 * time.Minute
)

// tired reports whether a controller that lives through all that is done would give way
// over an object, were it meddled with once more.
func (s *shop) tired(o unstructured.Unstructured) bool {
	lately := 0
	for _, at := range s.meddled[nameOf(&o)] {
		if time.Since(at) < meddledWithin {
			lately++
		}
	}
	return lately >= mostMeddled
}

// plant changes an object as nobody should.
func plant(o *unstructured.Unstructured) {
	switch o.GetKind() {
	case "ConfigMap":
		_ = unstructured.SetNestedField(o.Object, "planted", "data", "PLANTED")
	case "Service":
		_ = unstructured.SetNestedField(o.Object, "planted", "spec", "selector", "app.kubernetes.io/instance")
	case "Deployment":
		_ = unstructured.SetNestedField(o.Object, "planted", "spec", "template", "metadata", "annotations", "planted")
	case "HTTPRoute":
		_ = unstructured.SetNestedStringSlice(o.Object, []string{"planted.example.com"}, "spec", "hostnames")
	default:
		labels := o.GetLabels()
		labels["app.kubernetes.io/name"] = "planted"
		o.SetLabels(labels)
	}
}

// settleStrangers makes objects that are none of ours, close by.
func (s *shop) settleStrangers() {
	s.strangers = map[string]*unstructured.Unstructured{}
	meta := func(name string, labels ...string) map[string]any {
		m := map[string]any{"name": name, "namespace": s.namespace}
		set := map[string]any{}
		for i := 0; i+1 < len(labels); i += 2 {
			set[labels[i]] = labels[i+1]
		}
		if len(set) > 0 {
			m["labels"] = set
		}
		return m
	}
	pod := map[string]any{"app": "stranger"}
	for _, o := range []map[string]any{
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("web-config"), "data": map[string]any{"a": "b"}},
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("api-blue-config-0", "app.kubernetes.io/managed-by", "Helm"), "data": map[string]any{"a": "b"}},
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("of-staging", v1alpha1.LabelRelease, "web", v1alpha1.LabelEnvironment, "staging")},
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("half-labelled", v1alpha1.LabelRelease, "web")},
		{"apiVersion": "v1", "kind": "Service", "metadata": meta("api-red", "app.kubernetes.io/instance", "api-red"), "spec": map[string]any{"ports": []any{map[string]any{"port": int64(80)}}}},
		{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("side-c")},
		{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("api", "app.kubernetes.io/name", "api"), "spec": map[string]any{
			"replicas": int64(0), "selector": map[string]any{"matchLabels": pod},
			"template": map[string]any{"metadata": map[string]any{"labels": pod}, "spec": map[string]any{"containers": []any{map[string]any{"name": "a", "image": "a"}}}}}},
		{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": meta("api-other"), "spec": map[string]any{"hostnames": []any{"other.example.com"}}},
		{"apiVersion": "sluice.dev/v1alpha1", "kind": "Release", "metadata": meta("side-z"), "spec": map[string]any{"project": "another", "environment": "production", "component": "side-z"}},
	} {
		object := &unstructured.Unstructured{Object: o}
		client := s.resource(object.GroupVersionKind())
		made, err := client.Create(s.t.Context(), object, metav1.CreateOptions{})
		require.NoError(s.t, err)
		s.strangers[object.GetKind()+"/"+object.GetName()] = made
	}
	// Its controller writes the Deployment's status and a revision once.
	name := "Deployment/api"
	client := s.resource(s.strangers[name].GroupVersionKind())
	require.Eventually(s.t, func() bool {
		seen, err := client.Get(s.t.Context(), "api", metav1.GetOptions{})
		require.NoError(s.t, err)
		conditions, _, _ := unstructured.NestedSlice(seen.Object, "status", "conditions")
		generation, _, _ := unstructured.NestedInt64(seen.Object, "status", "observedGeneration")
		steady := s.strangers[name].GetResourceVersion() == seen.GetResourceVersion() && len(conditions) == 2 && generation == seen.GetGeneration()
		s.strangers[name] = seen
		return steady
	}, awaitTimeout, 300*time.Millisecond, "the stranger's controller is done")
}

// resource is the client of a kind; the plurals of all of ours are regular.
func (s *shop) resource(gvk schema.GroupVersionKind) dynamic.ResourceInterface {
	return s.api.Resource(schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: strings.ToLower(gvk.Kind) + "s"}).Namespace(s.namespace)
}

func (s *shop) releases() dynamic.ResourceInterface {
	return s.resource(v1alpha1.GroupVersion.WithKind(v1alpha1.ReleaseKind))
}
