package image

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

// binary is what `make build` has made.
func binary(t *testing.T) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join(root, "bin", "sluice"))
	require.NoError(t, err)
	if _, err := os.Stat(file); err != nil {
		t.Skip("there is no bin/sluice: run make build")
	}
	return file
}

// TestBinaryIsStaticAndReproducible: it holds nothing of the machine that built it, and
// needs no C library. So the same commit, built by the same Go, is the same file, which the
// tests of cmd/sluice see by building it twice.
func TestBinaryIsStaticAndReproducible(t *testing.T) {
	t.Parallel()
	file := binary(t)
	info, err := buildinfo.ReadFile(file)
	require.NoError(t, err)
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	assert.Equal(t, "0", settings["CGO_ENABLED"])
	assert.Equal(t, "true", settings["-trimpath"])
	assert.NotContains(t, settings, "vcs.modified", "who builds from a checkout with changes must not get another file for that")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	here, err := filepath.Abs(root)
	require.NoError(t, err)
	assert.False(t, bytes.Contains(data, []byte(here+"/")), "the binary names %s", here)
}

// buildah runs it with a storage of the test's own.
func buildah(t *testing.T, storage string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	c := exec.Command("buildah", append([]string{"--root", filepath.Join(storage, "root"), "--runroot", filepath.Join(storage, "run"), "--storage-driver", "vfs"}, args...)...)
	c.Stdout, c.Stderr = &out, &errs
	require.NoError(t, c.Run(), "buildah %s: %s", strings.Join(args, " "), errs.String())
	return strings.TrimSpace(out.String())
}

// TestImage builds the image twice and runs it: it is the same image, it holds the
// program and its bill of materials and nothing else, and the program runs as nobody.
func TestImage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("buildah is not installed")
	}
	if os.Geteuid() != 0 {
		t.Skip("without root, buildah looks into images in a namespace of its own only: buildah unshare go test ./deploy/image")
	}
	folder, storage := t.TempDir(), t.TempDir()
	data, err := os.ReadFile(binary(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "sluice"), data, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "sluice.spdx.json"), []byte("{}"), 0o644))
	build := func(name string) {
		buildah(t, storage, "build", "--quiet", "--format", "oci", "--isolation", "chroot", "--tag", name, "--timestamp", "1700000000",
			"--build-arg", "VERSION=v1", "--build-arg", "COMMIT=abc", "--build-arg", "DATE=2026-11-22T12:00:00Z", "--no-cache",
			"--file", filepath.Join(root, "Dockerfile"), folder)
	}
	build("one")
	build("two")
	var one, two struct {
		FromImageDigest string
		OCIv1           struct {
			Config struct {
				User       string
				Entrypoint []string
				Labels     map[string]string
			} `json:"config"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(buildah(t, storage, "inspect", "--type", "image", "one")), &one))
	require.NoError(t, json.Unmarshal([]byte(buildah(t, storage, "inspect", "--type", "image", "two")), &two))
	require.NotEmpty(t, one.FromImageDigest)
	assert.Equal(t, one.FromImageDigest, two.FromImageDigest, "the same files give the same image")
	assert.Equal(t, "65532:65532", one.OCIv1.Config.User)
	assert.Equal(t, []string{"/sluice"}, one.OCIv1.Config.Entrypoint)
	assert.Equal(t, "v1", one.OCIv1.Config.Labels["org.opencontainers.image.version"])

	container := buildah(t, storage, "from", "one")
	mounted := buildah(t, storage, "mount", container)
	entries, err := os.ReadDir(mounted)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	assert.Equal(t, []string{"sluice", "sluice.spdx.json"}, names)
	said := buildah(t, storage, "run", "--isolation", "chroot", container, "--", "/sluice", "version", "-o", "json")
	var version map[string]string
	require.NoError(t, json.Unmarshal([]byte(said), &version), said)
	for _, field := range []string{"version", "commit", "date", "go"} {
		assert.NotEmpty(t, version[field])
	}
	assert.NotEqual(t, "unknown", version["commit"])
}
