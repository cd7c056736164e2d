package envrepo

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// seed adds the fixture's files whose name ends in suffix, and some that are
// unlike any file.
func seed(f *mutants.F, suffix string) {
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

func FuzzProject(ff *testing.F) {
	f := mutants.New(ff)
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

func FuzzComponent(ff *testing.F) {
	f := mutants.New(ff)
	seed(f, "component.yaml")
	f.Add([]byte("a: *" + strings.Repeat("a", 5000)))
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

func FuzzTraffic(ff *testing.F) {
	f := mutants.New(ff)
	seed(f, "traffic.yaml")
	const head = "apiVersion: sluice.dev/v1alpha1\nkind: Traffic\n"
	long := strings.Repeat("a", 5000)
	f.Add([]byte(head + "weights: {" + long + ": x}\n"))
	f.Add([]byte(head + "weights: {" + long + ": 1, " + long + ": 2}\n"))
	f.Add([]byte(head + "weights: {" + long + ": 0, blue: 100}\nmirror: {" + long + ": 101}\n"))
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

func FuzzBuild(ff *testing.F) {
	f := mutants.New(ff)
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
func FuzzDigestEdit(ff *testing.F) {
	f := mutants.New(ff)
	seed(f, "kustomization.yaml")
	f.Add([]byte("images: [{name: registry.example.com/shop/api, digest: \"" + digestA + "\"}]"))
	f.Add([]byte("images:\n-   digest: >-\n     " + digestA + "\n    name: registry.example.com/shop/api # x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const file = "kustomization.yaml"
		out, err := withDigest(file, data, image, digestB)
		if err != nil {
			require.Contains(t, err.Error(), file)
			require.Less(t, len(err.Error()), 2000)
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
		// But for the digest, the two mean the same, unless it has a tag, which stays …
		tagged := old.digest.Style&yaml.TaggedStyle != 0
		*follow(old.digest) = yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagString, Value: digestB, Anchor: follow(old.digest).Anchor}
		if old.digest.Kind == yaml.ScalarNode && old.digest.Anchor == "" && !tagged {
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

// What is taken over as manifests has kinds, and no Secret in plain text, however it
// is written.
func FuzzManifests(ff *testing.F) {
	f := mutants.New(ff)
	seed(f, "deployment.yaml")
	f.Add([]byte("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: b}\n"))
	f.Add([]byte("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: ENC}\nsops: {mac: x}\n"))
	f.Add([]byte("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: b}\nsops:\n"))
	f.Add([]byte("apiVersion: v1\nkind: Secret\nmetadata: {name: " + strings.Repeat("a", 5000) + "}\ndata: {a: b}\n"))
	f.Add([]byte("x: &x {data: {a: b}}\n<<: *x\nkind: Secret\n"))
	f.Add([]byte("x: &x {data: {a: b}}\nkind: ConfigMap\n<<: *x\n---\nkind: &k Secret\nmetadata: {name: *k}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const file = "components/api/x.yaml"
		list, _, err := parseManifestFile(file, "x.yaml", data)
		checkDecoder(t, file, err)
		if err != nil {
			return
		}
		workloadImages(list)
		decoder := yaml.NewDecoder(bytes.NewReader(data))
		for n := 0; ; {
			var object map[string]any
			err := decoder.Decode(&object)
			if errors.Is(err, io.EOF) {
				require.Equal(t, len(list), n)
				return
			}
			if err != nil {
				return // which Kustomize tells
			}
			if object == nil {
				continue
			}
			n++
			if sops := reflect.ValueOf(object["sops"]); object["kind"] == "Secret" && (sops.Kind() != reflect.Map || sops.Len() == 0) {
				require.Nil(t, object["data"])
				require.Nil(t, object["stringData"])
			}
		}
	})
}

var schemeFormat = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// A URL is kept without user and password, and once it is clean it stays as it is.
func FuzzWithoutCredentials(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("https", "ann", "git.example.com/shop/api?a=b#c")
	f.Add("ssh", "git", "git.example.com:22/shop")
	f.Add("http", "", "[::1]/%zz?token=x&sig=y")
	f.Fuzz(func(t *testing.T, scheme, user, rest string) {
		const secret = "hunter2-hunter2"
		if strings.Contains(user, "/") || !schemeFormat.MatchString(scheme) {
			return
		}
		clean := WithoutCredentials(scheme + "://" + user + ":" + secret + "@" + rest)
		require.NotContains(t, clean, secret)
		require.Equal(t, clean, WithoutCredentials(clean))
		if !strings.ContainsAny(rest, "?#") {
			require.NotContains(t, WithoutCredentials(scheme+"://"+rest+"?access_token="+secret), secret)
		}
	})
}
