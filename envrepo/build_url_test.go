package envrepo

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPageProblem(t *testing.T) {
	for address, want := range map[string]string{
		"https://ci.example.com/runs/1?x=y#z":                "",
		"http://127.0.0.1:8080/":                             "",
		"ftp://example.com/report":                           "must begin with https:// or http://",
		"javascript:alert(1)":                                "must be an address such as https://ci.example.com/runs/8841",
		"//example.com/":                                     "must begin with https:// or http://",
		"https:///report":                                    "must be an address such as https://ci.example.com/runs/8841",
		"https://a.example.com/ x":                           "must be an address such as https://ci.example.com/runs/8841",
		"https://a.example.com/\x1b[2J":                      "must be an address such as https://ci.example.com/runs/8841",
		"https://ada:secret@example.com/":                    "must have no user name or password",
		"https://example.com/" + strings.Repeat("x", maxURL): "has 2020 bytes, more than 2000",
	} {
		assert.Equal(t, want, pageProblem(address), "%q", address)
	}
}

// Where a check is to be seen is no part of what it found: a second run of a pipeline
// may name another page.
func TestLinksOfChecks(t *testing.T) {
	build := Build{Component: "api", Image: "registry.example.com/shop/api", Digest: "sha256:" + strings.Repeat("a", 64),
		Checks: []Check{{Name: "trivy", Status: "passed", URL: "https://ci.example.com/1"}}}
	data, err := encodeBuild(buildFile("api", build.Digest), build)
	require.NoError(t, err)
	got, err := decodeBuild(buildFile("api", build.Digest), data)
	require.NoError(t, err)
	assert.Equal(t, build.Checks, got.Checks)

	again := build
	again.Checks = []Check{{Name: "trivy", Status: "passed", URL: "https://ci.example.com/2"}}
	assert.Empty(t, differences(build, again))
	again.Checks = []Check{{Name: "trivy", Status: "failed", URL: "https://ci.example.com/1"}}
	assert.Equal(t, []string{"checks"}, differences(build, again))

	_, err = decodeBuild(buildFile("api", build.Digest), []byte(strings.Replace(string(data), "https:", "ftp:", 1)))
	assert.ErrorContains(t, err, `checks[0].url "ftp://ci.example.com/1" must begin with https:// or http://`)
}
