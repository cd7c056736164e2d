package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// rootOfPod makes what a container of the image sees, in a mount namespace of its own: a
// root that cannot be written to, and the mounts that may be; then it becomes the program.
const rootOfPod = `
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
if touch "$ROOT/probe" 2>/dev/null; then echo "the root can be written to"; exit 1; fi
for folder in $SCRATCH; do mount -t tmpfs -o size=256m,mode=1777 tmpfs "$ROOT$folder"; done
program=$1; shift
exec chroot --userspec="$USERGROUP" "$ROOT" "$program" "$@"
`

// mountsOfPod tries all of that in an empty root. The host's own root stands in for the
// container's in chroot, as there is no program in an empty one.
const mountsOfPod = `
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount -t tmpfs -o size=1m,mode=1777 tmpfs "$ROOT/scratch"
exec chroot --userspec=65532:65532 / true
`

// TestPodWithReadOnlyRoot runs the program as the Deployment has it run: as nobody, in a
// root that holds it and nothing else, no git, no shell, no certificates, and of which
// only the scratch volumes can be written to.
func TestPodWithReadOnlyRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("making mounts takes root")
	}
	empty := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(empty, "scratch"), 0o755))
	probe := exec.Command("unshare", "--mount", "sh", "-ec", mountsOfPod)
	probe.Env = append(os.Environ(), "ROOT="+empty)
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("this machine does not let a test make the mounts of a pod: %v: %s", err, out)
	}
	pod := installedPod(t)
	container := pod.Containers[0]
	require.True(t, *container.SecurityContext.ReadOnlyRootFilesystem)
	require.EqualValues(t, 65532, *pod.SecurityContext.RunAsUser)

	s := newShop(t, rand.New(rand.NewPCG(9, 9)))
	_, url := serveGit(t, s.bare)
	c := newVictim(t, "unshare", s.namespace, url)
	root := t.TempDir()
	require.NoError(t, os.Chmod(root, 0o755))
	copyFile(t, buildSluice(t), filepath.Join(root, "sluice"), 0o755)
	at := len(c.args) - 1
	for c.args[at] != "--kubeconfig" {
		at--
	}
	copyFile(t, c.args[at+1], filepath.Join(root, "kubeconfig"), 0o644)
	c.args[at+1] = "/kubeconfig"
	c.args = append([]string{"--mount", "sh", "-ec", rootOfPod, "sh", "/sluice"}, c.args...)
	c.env = []string{"PATH=" + os.Getenv("PATH"), "ROOT=" + root, "USERGROUP=65532:65532"}
	for _, e := range container.Env {
		if e.ValueFrom == nil {
			c.env = append(c.env, e.Name+"="+e.Value)
		}
	}
	var scratch []string
	for _, m := range container.VolumeMounts {
		for _, v := range pod.Volumes {
			if v.Name == m.Name && v.EmptyDir != nil {
				scratch = append(scratch, m.MountPath)
				require.NoError(t, os.MkdirAll(filepath.Join(root, path.Clean(m.MountPath)), 0o755))
			}
		}
	}
	require.NotEmpty(t, scratch)
	c.env = append(c.env, "SCRATCH="+strings.Join(scratch, " "))

	c.start()
	defer c.kill()
	s.awaitConverged(c)
	s.commit(configure("read-only"))
	c.notify()
	s.awaitConverged(c)
	require.NoError(t, c.process.Process.Signal(syscall.SIGTERM))
	<-c.ended
	assert.Zero(t, c.process.ProcessState.ExitCode(), c.log())
	assert.NotContains(t, c.log(), syscall.EROFS.Error())
	assert.NotContains(t, c.log(), syscall.EACCES.Error())
}

// installedPod is the pod of the controller, as the manifests have it.
func installedPod(t *testing.T) corev1.PodSpec {
	t.Helper()
	text, err := os.ReadFile("../../deploy/controller/deployment.yaml")
	require.NoError(t, err)
	var d appsv1.Deployment
	require.NoError(t, yaml.UnmarshalStrict(text, &d))
	return d.Spec.Template.Spec
}

// copyFile copies a file.
func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, data, mode))
}

// TestBinaryIsReproducible: the same sources in another folder make the same file, bit
// for bit.
func TestBinaryIsReproducible(t *testing.T) {
	t.Parallel()
	listed, err := exec.Command("git", "-C", "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("the sources are no checkout of git: %v", err)
	}
	elsewhere := filepath.Join(t.TempDir(), "another-name")
	for name := range strings.SplitSeq(strings.TrimRight(string(listed), "\x00"), "\x00") {
		from, to := filepath.Join("../..", name), filepath.Join(elsewhere, name)
		if info, err := os.Lstat(from); err != nil || !info.Mode().IsRegular() {
			continue // deleted, and not committed yet
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		copyFile(t, from, to, 0o644)
	}
	one := buildSluice(t)
	two := filepath.Join(t.TempDir(), "sluice")
	command := buildCommand(two)
	command.Dir = filepath.Join(elsewhere, "cmd", "sluice")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	first, err := os.ReadFile(one)
	require.NoError(t, err)
	second, err := os.ReadFile(two)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(first, second), "two builds of the same sources differ")
}
