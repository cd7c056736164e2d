package promotion

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render/diff"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// golden compares a text with a file of testdata, whole.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

func TestBody(t *testing.T) {
	t.Run("tagged", func(t *testing.T) { golden(t, "tagged.md", Body(sound())) })

	t.Run("untagged, first, with nothing known", func(t *testing.T) {
		in := sound()
		in.Components[0] = ComponentInput{Name: "api", New: digest("c"), Health: HealthReport{Message: "no cluster is given"}}
		golden(t, "unknown.md", Body(in))
	})

	t.Run("everything is wrong", func(t *testing.T) {
		in := sound()
		c := &in.Components[0]
		in.Policy.Gates.Checks = []string{"trivy", "sbom"}
		c.NewTraffic.Weights = []envrepo.Weight{{Tag: "green", Percent: 100}}
		c.NewTraffic.Mirrors = []envrepo.Weight{{Tag: "green", Percent: 5}}
		c.Back = true
		c.Contracts[0].Missing = []string{"DATABASE_URL (container api)"}
		c.NewBuild.Checks[0].Status = "failed"
		c.Health = HealthReport{Known: true, Digests: []string{c.New}, Message: "0 of 2 pods are ready"}
		c.OldError = "environments/production/api: no image"
		c.Objects = append(c.Objects, diff.Change{
			ID: "ConfigMap shop-production/api-config", Kind: "create", Text: strings.Repeat("+  line: value\n", 320),
		}, diff.Change{ID: "Service shop-production/api", Kind: "none"})
		golden(t, "wrong.md", Body(in))
	})

	t.Run("several components", func(t *testing.T) {
		in := sound()
		web := sound().Components[0]
		web.Name, web.Tag, web.OldTraffic, web.NewTraffic = "web", "", nil, nil
		web.RenderError = "environments/production/web: unknown field"
		in.Components = append(in.Components, web)
		in.Head = "sluice/promote/production/all"
		assert.Equal(t, "Promote 2 components to production", Title(in))
		golden(t, "several.md", Body(in))
	})
}

func TestPageOfTheRecord(t *testing.T) {
	in := sound()
	c := &in.Components[0]
	c.OldPage, c.NewPage = "javascript:alert(1)", "https://git.example.com/shop/environments/blob/9f8e/builds/api/cccccccccccc.yaml"
	text := Body(in)
	assert.Contains(t, text, "[record](https://git.example.com/shop/environments/blob/9f8e/builds/api/cccccccccccc.yaml)")
	assert.NotContains(t, text, "javascript")

	c.NewPage = "https://git.example.com/shop/environments/src/commit/9f8e/builds/api/cccccccccccc.yaml"
	assert.Contains(t, Body(in), "[record]("+c.NewPage+")", "as Gitea has it")
}

func TestTitle(t *testing.T) {
	assert.Equal(t, "Promote api to production: cccccccccccc", Title(sound()))
}

// withPages is a forge of which only the pages are used.
type withPages struct{ Forge }

func (withPages) FileURL(revision, file string) string {
	return "https://git.example.com/blob/" + revision + "/" + file
}

func TestOverlaysAreLinkedAtTheHead(t *testing.T) {
	s := &Service{forge: withPages{}, project: "projects/shop"}
	in := sound()
	s.linkOverlays(&in, "9f8e")
	assert.Equal(t, "https://git.example.com/blob/9f8e/projects/shop/environments/production/api/kustomization.yaml", in.Components[0].OverlayPage)
}

func TestBodyStaysShort(t *testing.T) {
	t.Parallel()
	in := sound()
	for i := range 400 {
		in.Components[0].Objects = append(in.Components[0].Objects, diff.Change{
			ID: fmt.Sprintf("ConfigMap shop-production/c%03d", i), Kind: "update", Text: strings.Repeat("+ü: value\n", 200),
		})
	}
	text := Body(in)
	assert.Less(t, utf8.RuneCountInString(text), 65_536)
	assert.Contains(t, text, "Too long to show: `ConfigMap shop-production/c")
	assert.Contains(t, text, "`sluice diff --environment production --ref sluice/promote/production/api` shows all")
	assert.NotContains(t, text, "[the overlay]")

	in.Components[0].OverlayPage = "https://git.example.com/shop/environments/blob/9f8e/environments/production/api/kustomization.yaml"
	assert.Contains(t, Body(in), " shows all of what [the overlay]("+in.Components[0].OverlayPage+") becomes.")
	in.Components[0].OverlayPage = "javascript:alert(1)"
	assert.NotContains(t, Body(in), "javascript")

	for i := range 300 {
		c := in.Components[0]
		c.Objects = c.Objects[:10] // as much is too long as well
		c.Name = fmt.Sprintf("api-%03d", i)
		in.Components = append(in.Components, c)
	}
	text = Body(in)
	assert.Less(t, utf8.RuneCountInString(text), 65_536)
	assert.Contains(t, text, "Too long to show: `api-")
}

// TestBodyStaysShortWhateverIsNamed: the names of what is too long to show are bounded
// too, of many components together.
func TestBodyStaysShortWhateverIsNamed(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 9, 57} {
		in := sound()
		c := in.Components[0]
		c.Objects = nil
		// Nearly a body's worth for one component, and more than its share for one of
		// several.
		text := strings.Repeat("+a long value, and more of it, and more of it, and more of it\n", 860/n+40)
		for i := range 100 {
			long := fmt.Sprintf("%03d-%s", i, strings.Repeat("x", 240))
			c.Objects = append(c.Objects, diff.Change{ID: "ConfigMap shop-production/" + long, Kind: "update", Text: text})
			c.Keyless = append(c.Keyless, "environments/production/api/"+long)
		}
		in.Components = nil
		for i := range n {
			c.Name = fmt.Sprintf("%063d", i)
			in.Components = append(in.Components, c)
		}
		body := Body(in)
		assert.LessOrEqual(t, utf8.RuneCountInString(body), maxBody, "%d components", n)
		assert.Contains(t, body, "oo long to show: ")
	}
}

func TestCompareURL(t *testing.T) {
	tests := []struct{ repository, want string }{
		{"https://git.example.com/shop/api", "https://git.example.com/shop/api/compare/1111111...3333333"},
		{"https://git.example.com/shop/api.git/", "https://git.example.com/shop/api/compare/1111111...3333333"},
		{"https://git.example.com/shop/api.git", "https://git.example.com/shop/api/compare/1111111...3333333"},
		{"https://gitlab.example.com/shop/api", "https://gitlab.example.com/shop/api/-/compare/1111111...3333333"},
		{"git@git.example.com:shop/api", ""},
		{"https://user@git.example.com/shop/api", ""},
		{"https://git.example.com/shop/api?x=", ""},
		{"https://git.example.com/shop/api)[x](https://evil.example.com", ""},
		{"", ""},
	}
	for _, tt := range tests {
		t.Run(tt.repository, func(t *testing.T) {
			from := &envrepo.Build{Source: envrepo.Source{Repository: tt.repository, Commit: "1111111"}}
			to := &envrepo.Build{Source: envrepo.Source{Repository: tt.repository, Commit: "3333333"}}
			assert.Equal(t, tt.want, compareURL(from, to))
		})
	}
	assert.Empty(t, compareURL(nil, nil))
}
