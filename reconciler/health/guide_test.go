package health_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
)

// The example of the guide is decoded, compiled and judges what it is written for.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/readiness.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(guide), "```yaml\n")
	require.True(t, found)
	example, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	repo, err := envrepo.Open(fstest.MapFS{
		"sluice.yaml":                   {Data: []byte("apiVersion: sluice.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nenvironments: [{name: production, namespace: shop}]\n")},
		"components/api/component.yaml": {Data: []byte(example)},
	})
	require.NoError(t, err)
	component, err := repo.Component("api")
	require.NoError(t, err)
	e, err := health.Compile(component.Health)
	require.NoError(t, err)

	bucket := func(conditions string) health.State {
		o := cluster(t, "status: {conditions: "+conditions+"}")
		o.SetAPIVersion("cloud.example.com/v1alpha1")
		o.SetKind("Bucket")
		return e.Of(o)
	}
	for _, test := range []struct {
		got, want health.State
	}{
		{e.Of(cluster(t, "spec: {}")), health.State{Message: "not ready: no such key: status"}},
		{e.Of(cluster(t, "status: {phase: Setting up primary}")), health.State{Message: `not ready: object.status.phase == "Cluster in healthy state" is false`}},
		{e.Of(cluster(t, "status: {phase: Setting up primary, phaseReason: no storage}")), health.State{Message: "no storage"}},
		{e.Of(cluster(t, "status: {phase: Cluster in healthy state}")), health.State{Status: health.Current}},
		{e.Of(cluster(t, "status: {phase: Failed over, phaseReason: lost}")), health.State{Status: health.Failed, Message: "lost"}},
		{bucket("[{type: Synced, status: 'True'}]"), health.State{Status: health.Current}},
		{bucket("[{type: Synced, status: 'False', message: no permission}]"), health.State{Message: "no permission"}},
	} {
		assert.Equal(t, test.want, test.got)
	}

	functions, _, found := strings.Cut(string(guide[strings.Index(string(guide), "of the string functions"):]), "Left out")
	require.True(t, found)
	for _, call := range []string{"'a'.charAt(0)", "'A'.lowerAscii()", "'a'.upperAscii()", "'a'.reverse()", "'a b'.split(' ')[0]", "'ba'.substring(1)", "' a'.trim()"} {
		name := call[strings.Index(call, ".")+1 : strings.Index(call, "(")]
		assert.Contains(t, functions, "`"+name+"`")
		_, err := health.Compile([]envrepo.HealthRule{rule("true", "", call)})
		assert.NoError(t, err)
	}
}
