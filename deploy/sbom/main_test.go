package main

import (
	"encoding/json"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDescribe: every module that is linked is listed once, as the one that it was
// replaced by, with an identifier that SPDX takes; and the same again says the same.
func TestDescribe(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{
		GoVersion: "go1.26.0", Main: debug.Module{Path: "example.com/x", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1", Sum: "h1:abc="}},
			{Path: "example.com/a_b/v2", Version: "v2.3.0+incompatible", Sum: "h1:def="},
		},
	}
	created := time.Date(2026, 11, 22, 13, 0, 0, 0, time.FixedZone("", 3600))
	d := describe("sluice", "v2.0.0", []byte("binary"), info, created)
	assert.Equal(t, "2026-11-22T12:00:00Z", d.CreationInfo.Created)
	assert.Equal(t, "https://example.com/x/spdx/9a3a45d01531a20e89ac6ae10b0b0beb0492acd7216a368aa062d1a5fecaf9cd", d.Namespace)
	require.Len(t, d.Packages, 4)
	for i, want := range []struct{ name, version, comment, purl string }{
		{"example.com/x", "v2.0.0", "", "pkg:golang/example.com/x@v2.0.0"},
		{"stdlib", "1.26.0", "", "pkg:golang/stdlib@1.26.0"},
		{"example.com/fork", "v1.0.1", "go.sum h1:abc=", "pkg:golang/example.com/fork@v1.0.1"},
		{"example.com/a_b/v2", "v2.3.0+incompatible", "go.sum h1:def=", "pkg:golang/example.com/a_b/v2@v2.3.0+incompatible"},
	} {
		p := d.Packages[i]
		assert.Equal(t, want.name, p.Name)
		assert.Equal(t, want.version, p.Version)
		assert.Equal(t, want.comment, p.Comment)
		assert.Equal(t, want.purl, p.References[0].Locator)
		assert.Regexp(t, `^SPDXRef-[a-zA-Z0-9.-]+$`, p.SPDXID)
		assert.Equal(t, p.SPDXID, d.Relationships[i].Related)
	}
	assert.Equal(t, []checksum{{"SHA256", "9a3a45d01531a20e89ac6ae10b0b0beb0492acd7216a368aa062d1a5fecaf9cd"}}, d.Packages[0].Checksums)
	assert.Equal(t, relationship{d.Packages[0].SPDXID, "DEPENDS_ON", d.Packages[3].SPDXID}, d.Relationships[3])

	first, err := json.Marshal(d)
	require.NoError(t, err)
	again, err := json.Marshal(describe("sluice", "v2.0.0", []byte("binary"), info, created))
	require.NoError(t, err)
	assert.Equal(t, string(first), string(again))
}
