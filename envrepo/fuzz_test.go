package envrepo

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// seed adds the fixture's files whose name ends in suffix, and some that are
// unlike any file.
func seed(f *testing.F, suffix string) {
	for name, file := range shop(f) {
		if strings.HasSuffix(name, suffix) {
			f.Add(file.Data)
		}
	}
	for _, s := range []string{"", "{}", "- a", "a: &a [*a]", "? a\n: b\n", "{a: {b, c: [}", "\xef\xbb\xbfa: b", "a: |\n b\n...\n", "%YAML 1.1\n--- x", "a: b #c\n#d\n- e", "\x00"} {
		f.Add([]byte(s))
	}
}

// checkDecoder: every error names the file, and none is longer than a screen.
func checkDecoder(t *testing.T, file string, err error) {
	if err == nil {
		return
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		require.True(t, strings.HasPrefix(line, file+":"), "%q in %q", line, err)
		require.Negative(t, strings.IndexFunc(line, unprintable), "%q", line)
		require.Less(t, len(line), 2000)
	}
}

func FuzzProject(f *testing.F) {
	seed(f, "sluice.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodeProject("sluice.yaml", data)
		checkDecoder(t, "sluice.yaml", err)
		one, errFor := decodeProjectFor("sluice.yaml", "production", data)
		if errFor == nil && err != nil { // what is left of it is as good as a sound file
			_, missing := one.environment("production")
			require.NoError(t, missing)
		}
		if err != nil {
			return
		}
		require.NoError(t, errFor)
		require.Equal(t, p, one)
		namespaces := map[string]bool{}
		for i, e := range p.Environments {
			require.False(t, namespaces[e.Namespace])
			namespaces[e.Namespace] = true
			require.Equal(t, i == 0, e.Promotion.From == "")
			require.True(t, i == 0 || !e.AutoDeploy)
		}
		require.NotEmpty(t, p.Environments)
	})
}

func FuzzComponent(f *testing.F) {
	seed(f, "component.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeComponent("component.yaml", "api", data)
		checkDecoder(t, "component.yaml", err)
		if err == nil {
			require.Equal(t, "api", c.Name)
			require.NotEmpty(t, c.Image)
			require.Positive(t, c.HealthTimeout)
		}
	})
}

func FuzzTraffic(f *testing.F) {
	seed(f, "traffic.yaml")
	tags := []string{"blue", "green", "red"}
	want := Traffic{Weights: []Weight{{"green", 100}, {"red", 0}}, Mirrors: []Weight{{"red", 5}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := decodeTraffic("traffic.yaml", tags, data)
		checkDecoder(t, "traffic.yaml", err)
		if err != nil {
			return
		}
		sum := 0
		for _, w := range tr.Weights {
			require.Contains(t, tags, w.Tag)
			sum += w.Percent
		}
		require.Equal(t, 100, sum)

		// Valid traffic can be edited, and back.
		edited, err := withTraffic("traffic.yaml", data, tags, want)
		require.NoError(t, err)
		back, err := withTraffic("traffic.yaml", edited, tags, tr)
		require.NoError(t, err)
		got, err := decodeTraffic("traffic.yaml", tags, back)
		require.NoError(t, err)
		require.True(t, tr.Equal(got))
	})
}

func FuzzBuild(f *testing.F) {
	seed(f, "2222.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		const file = "builds/api/1111aaaa2222.yaml"
		b, err := decodeBuild(file, data)
		checkDecoder(t, file, err)
		if err != nil {
			return
		}
		require.Equal(t, "1111aaaa2222", b.ID())
		printed, err := encodeBuild(file, b)
		require.NoError(t, err, "a record that can be read can be written")
		again, err := encodeBuild(file, b)
		require.NoError(t, err)
		require.Equal(t, string(printed), string(again))
	})
}

// An edit of the digest changes nothing but the digest.
func FuzzDigestEdit(f *testing.F) {
	seed(f, "kustomization.yaml")
	f.Add([]byte("images: [{name: registry.example.com/shop/api, digest: \"" + digestA + "\"}]"))
	f.Add([]byte("images:\n-   digest: >-\n     " + digestA + "\n    name: registry.example.com/shop/api # x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const file = "kustomization.yaml"
		out, err := withDigest(file, data, image, digestB)
		if err != nil {
			checkDecoder(t, file, err)
			return
		}
		root, err := parseKustomization(file, out)
		require.NoError(t, err)
		p, err := findPin(file, root, image)
		require.NoError(t, err)
		require.Equal(t, digestB, p.Digest)

		before, err := parseKustomization(file, data)
		require.NoError(t, err)
		old, err := findPin(file, before, image)
		require.NoError(t, err)
		if old.digest == nil {
			return
		}
		// But for the digest, the two mean the same …
		*follow(old.digest) = yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagString, Value: digestB, Anchor: follow(old.digest).Anchor}
		if old.digest.Kind == yaml.ScalarNode && old.digest.Anchor == "" {
			require.True(t, sameTree(before, root))
		}
		// … and an edit in place changed no other byte.
		if len(out) == len(data) {
			require.Equal(t, 1, differingRuns(data, out))
		}
	})
}

// differingRuns counts the stretches of at most a digest's length in which two
// texts of the same length differ.
func differingRuns(a, b []byte) int {
	runs := 0
	for i := 0; i < len(a); i++ {
		if a[i] != b[i] {
			runs++
			i += len(digestA)
		}
	}
	if bytes.Equal(a, b) {
		return 1
	}
	return runs
}
