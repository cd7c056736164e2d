package envrepo

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const healthHeader = header + "Component\nmetadata: {name: api}\nimage: registry.example.com/shop/api\nhealth:\n"

func TestHealthRules(t *testing.T) {
	c, err := decodeComponent("components/api/component.yaml", "api", []byte(healthHeader+`- apiVersion: postgresql.cnpg.io/v1
  kind: Cluster
  ready: object.status.phase == "Cluster in healthy state"
  failed: |
    has(object.status.phase) &&
      object.status.phase == "Failed"
  message: object.status.?phaseReason.orValue("")
- apiVersion: v1
  kind: Service
  ready: 'true'
`))
	require.NoError(t, err)
	const file = "components/api/component.yaml"
	assert.Equal(t, []HealthRule{
		{File: file, Group: "postgresql.cnpg.io", Kind: "Cluster",
			Ready:   Expression{`object.status.phase == "Cluster in healthy state"`, 8},
			Failed:  Expression{"has(object.status.phase) &&\n  object.status.phase == \"Failed\"\n", 10},
			Message: Expression{`object.status.?phaseReason.orValue("")`, 12}},
		{File: file, Kind: "Service", Ready: Expression{"true", 15}},
	}, c.Health)
}

func TestHealthRulesAreDecodedStrictly(t *testing.T) {
	for _, test := range []struct{ name, data, want, hint string }{
		{"not a list", "  kind: Cluster\n", `components/api/component.yaml:6: health must be a list, found a mapping`, ""},
		{"missing and unknown", "- apiVersion: v1\n  redy: 'true'\n",
			`components/api/component.yaml:6: missing required field "kind" in Component health[0]
components/api/component.yaml:6: missing required field "ready" in Component health[0]
components/api/component.yaml:7: unknown field "redy" in Component health[0] (did you mean "ready"?)`,
			"known fields: apiVersion, kind, ready, failed, message"},
		{"no version", "- {apiVersion: postgresql.cnpg.io, kind: cluster, ready: object.ok}\n",
			`components/api/component.yaml:6: health[0].apiVersion "postgresql.cnpg.io" must be the API version of a kind, such as apps/v1
components/api/component.yaml:6: health[0].kind "cluster" must be a kind, such as Certificate`, ""},
		{"a boolean", "- {apiVersion: v1, kind: Service, ready: true}\n",
			`components/api/component.yaml:6: health[0].ready must be a string, found true`, `quote it: "true"`},
		{"blank", "- {apiVersion: v1, kind: Service, ready: ' '}\n",
			`components/api/component.yaml:6: health[0].ready " " is empty`, ""},
		{"twice, at other versions", "- {apiVersion: a.example.com/v1, kind: Service, ready: object.ok}\n- {apiVersion: a.example.com/v1beta1, kind: Service, ready: object.ok}\n",
			`components/api/component.yaml:7: health[1] is about kind Service of group "a.example.com", and so is the one in line 6`,
			"join them: the version of an object does not count"},
		{"many", strings.Repeat("- {}\n", 51), `components/api/component.yaml:6: health must have at most 50 items, found 51`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := decodeKind("Component", []byte(healthHeader+test.data))
			require.EqualError(t, err, test.want)
			assert.Equal(t, test.hint, hint(err))
		})
	}
	err := decodeKind("Component", []byte(healthHeader+"- {apiVersion: v1, kind: Service, ready: '"+strings.Repeat("x", 2049)+"'}\n"))
	require.ErrorContains(t, err, "is too long: 2049 bytes, 2048 are allowed")
}
