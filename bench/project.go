package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sluice-dev/sluice/gitrepo"
)

// files is a project folder, by path.
type files map[string]string

// componentName names the components of project, in order.
func componentName(i int) string { return fmt.Sprintf("c%05d", i) }

// digest is an image digest, another for each number: in its first twelve digits,
// which name a build.
func digest(n int) string { return fmt.Sprintf("sha256:%012x%052x", n+1, 0) }

// project has components with an overlay each in environment production, which come
// to so many objects, four at least: a Deployment, a Service, a ConfigMap, a
// ServiceAccount, then a budget, then more ConfigMaps. Deployments have no pods:
// those are the work of others, on the same cores.
func project(namespace string, components, objects int) files {
	out := files{"sluice.yaml": "apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\n" +
		"environments:\n- {name: production, namespace: " + namespace + "}\n"}
	for i := range components {
		maps.Copy(out, component(namespace, componentName(i), objects))
	}
	return out
}

func component(namespace, name string, objects int) files {
	labels := "{app.kubernetes.io/name: " + name + ", app.kubernetes.io/instance: " + name + "}"
	base, overlay := "components/"+name+"/", "environments/production/"+name+"/"
	var more strings.Builder
	fmt.Fprintf(&more, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s}\n", name)
	if objects > 4 {
		fmt.Fprintf(&more, "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: %s}\n"+
			"spec: {maxUnavailable: 1, selector: {matchLabels: {app.kubernetes.io/instance: %s}}}\n", name, name)
	}
	for n := 5; n < objects; n++ {
		more.WriteString("---\n" + configMap(fmt.Sprintf("%s-%d", name, n), "one"))
	}
	return files{
		base + "component.yaml":     "apiVersion: sluice.dev/v1alpha1\nkind: Component\nmetadata: {name: " + name + "}\nimage: registry.example.com/shop/" + name + "\n",
		base + "kustomization.yaml": kustomization + "resources: [deployment.yaml, service.yaml]\n",
		base + "deployment.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + ", labels: " + labels + "}\nspec:\n" +
			"  replicas: 0\n  selector: {matchLabels: " + labels + "}\n  template:\n    metadata: {labels: " + labels + "}\n    spec:\n" +
			"      containers: [{name: main, image: registry.example.com/shop/" + name + ", ports: [{name: http, containerPort: 8080}]}]\n",
		base + "service.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\n" +
			"spec: {selector: " + labels + ", ports: [{name: http, port: 80, targetPort: http}]}\n",
		overlay + "more.yaml":          more.String(),
		overlay + "config.yaml":        configMap(name, "one"),
		overlay + "kustomization.yaml": overlayOf(namespace, name, digest(0)),
	}
}

// bystander is a component of four objects that the cluster's controllers leave alone:
// its workload is a CronJob that is suspended, and it has no Service. Of thousands that
// only have to be there, it is the API server that makes the set-up long.
func bystander(namespace, name string) files {
	out := component(namespace, name, 4)
	base := "components/" + name + "/"
	delete(out, base+"deployment.yaml")
	delete(out, base+"service.yaml")
	out[base+"cronjob.yaml"] = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: " + name + "}\n" +
		"spec:\n  schedule: 0 0 1 1 *\n  suspend: true\n  jobTemplate:\n    spec:\n      template:\n        spec:\n" +
		"          restartPolicy: Never\n          containers: [{name: main, image: registry.example.com/shop/" + name + "}]\n"
	out[base+"second.yaml"] = configMap(name+"-2", "one")
	out[base+"kustomization.yaml"] = kustomization + "resources: [cronjob.yaml, second.yaml]\n"
	return out
}

const kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"

// overlayOf is the kustomization of a component's overlay, which pins a digest.
func overlayOf(namespace, name, digest string) string {
	return kustomization + "namespace: " + namespace + "\nresources: [../../../components/" + name + ", more.yaml, config.yaml]\n" +
		"images: [{name: registry.example.com/shop/" + name + ", digest: \"" + digest + "\"}]\n"
}

func overlayPath(name string) string {
	return "environments/production/" + name + "/kustomization.yaml"
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

// memory is the files as a file system.
func (f files) memory() fs.FS {
	out := fstest.MapFS{}
	for name, text := range f {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// write makes the files in a folder.
func (f files) write(dir string) error {
	for name, text := range f {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// commit is one of a history that is made in one go.
type commit struct {
	message string
	files   files
}

// repository makes a bare repository below the run's folder, with these commits.
func (b *bench) repository(ctx context.Context, commits ...commit) (string, error) {
	dir, err := os.MkdirTemp(b.dir, "environments-*.git")
	if err != nil {
		return "", err
	}
	if err := git(ctx, "", nil, "init", "--quiet", "--bare", "--initial-branch=main", dir); err != nil {
		return "", err
	}
	return dir, extend(ctx, dir, slices.Values(commits))
}

// extend adds commits to branch main.
func extend(ctx context.Context, dir string, commits func(yield func(commit) bool)) error {
	var in bytes.Buffer
	first := git(ctx, dir, nil, "rev-parse", "--quiet", "--verify", "refs/heads/main") != nil
	number, now := 0, time.Now().Unix()
	for c := range commits {
		number++
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter Bench <bench@example.com> %d +0000\ndata %d\n%s\n", now, len(c.message), c.message)
		if number == 1 && !first {
			in.WriteString("from refs/heads/main^0\n")
		}
		for _, name := range slices.Sorted(maps.Keys(c.files)) {
			fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", name, len(c.files[name]), c.files[name])
		}
	}
	return git(ctx, dir, &in, "-c", "gc.auto=0", "fast-import", "--quiet", "--force")
}

// git runs the program on a repository; "" is none.
func git(ctx context.Context, dir string, in *bytes.Buffer, args ...string) error {
	if dir != "" {
		args = append([]string{"-C", dir}, args...)
	}
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Bench", "GIT_AUTHOR_EMAIL=bench@example.com", "GIT_COMMITTER_NAME=Bench", "GIT_COMMITTER_EMAIL=bench@example.com")
	if in != nil {
		cmd.Stdin = in
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// open opens a repository as the controller does.
func (b *bench) open(ctx context.Context, dir string) (*gitrepo.Repository, error) {
	return gitrepo.Open(ctx, gitrepo.Options{URL: dir, Branch: "main", Author: "Bench", Email: "bench@example.com"})
}

// push commits files to branch main and returns when the remote has them.
func push(ctx context.Context, r *gitrepo.Repository, message string, content files) error {
	_, err := r.Update(ctx, "main", func(*gitrepo.Snapshot) (gitrepo.Edit, error) {
		edit := gitrepo.Edit{Message: message, Write: map[string][]byte{}}
		for name, text := range content {
			edit.Write[name] = []byte(text)
		}
		return edit, nil
	})
	return err
}

// source gives a repository to the reconciler, and tells a meter which overlays are
// read.
type source struct {
	*gitrepo.Repository
	meter *meter
}

func (s source) Snapshot(rev string) (fs.FS, error) {
	snapshot, err := s.Repository.Snapshot(rev)
	return watched{snapshot, s.meter}, err
}

// watched is a commit whose reads are told.
type watched struct {
	*gitrepo.Snapshot
	meter *meter
}

func (w watched) Open(name string) (fs.File, error) {
	w.meter.read(w.Revision(), name)
	return w.Snapshot.Open(name)
}

func (w watched) ReadFile(name string) ([]byte, error) {
	w.meter.read(w.Revision(), name)
	return w.Snapshot.ReadFile(name)
}

// Diff compares with another watched commit.
func (w watched) Diff(before fs.FS, visit func(path string) (within bool)) error {
	if other, ok := before.(watched); ok {
		before = other.Snapshot
	}
	return w.Snapshot.Diff(before, visit)
}
