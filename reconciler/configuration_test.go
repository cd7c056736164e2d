package reconciler_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

const componentFile = "components/api/component.yaml"

// requiring has component api require configuration, and its container see the
// ConfigMap api-one, with the key value.
func (f files) requiring(config string) files {
	return f.with(files{
		componentFile: f[componentFile] + "config: " + config + "\n",
		"components/api/deployment.yaml": strings.Replace(f["components/api/deployment.yaml"], "{name: api, image:",
			"{name: api, envFrom: [{configMapRef: {name: api-one}}], image:", 1),
	})
}

// record is the record of a build that requires keys.
func record(start, keys string) files {
	return files{"builds/api/" + digest(start)[7:19] + ".yaml": `apiVersion: sluice.dev/v1alpha1
kind: Build
component: api
image: registry.example.com/shop/api
digest: ` + digest(start) + `
createdAt: 2026-11-21T10:00:00Z
config: {required: [` + keys + `]}
`}
}

func TestConfigurationIsCompleteBeforeAnythingIsApplied(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	refused := func(content files, message, hint string) {
		t.Helper()
		s := statusOf(t, f.apply(content), "api")
		assert.Equal(t, reconciler.StateFailed, s.State)
		assert.Equal(t, v1alpha1.ReasonRenderFailed, s.Reason)
		assert.Contains(t, s.Message, message)
		assert.Contains(t, s.Hint, hint)
	}
	all := project(f.namespace)
	refused(all.requiring("{required: [value, DATABASE_URL]}"),
		"configuration in production: required key DATABASE_URL is missing: Deployment "+f.namespace+"/api, container api: DATABASE_URL: no env, envFrom or mounted file of the container provides it",
		"`echo 'DATABASE_URL=…' >> environments/production/api/config.env`, or `sluice secrets set environments/production/api/secrets.env DATABASE_URL`")
	assert.Nil(t, f.get("Deployment", "api"), "nothing is applied")

	f.ready(all.requiring("{required: [value]}"))
	// The record of its build comes in later: it decides all the same.
	refused(all.requiring("{required: [value]}").with(record("1", "value, TOKEN")), "required key TOKEN is missing", "TOKEN")
	// So does the schema.
	schema := func(pattern string) files {
		return files{"components/api/config.schema.json": `{"properties": {"value": {"pattern": "` + pattern + `"}}}`}
	}
	withSchema := all.requiring("{required: [value], schema: config.schema.json}")
	refused(withSchema, "components/api/config.schema.json: does not exist", "")
	f.ready(withSchema.with(schema("^one$")))
	refused(withSchema.with(schema("^two$")), `value must match "^two$" (components/api/config.schema.json)`, "correct the configuration of environments/production/api")
	assert.NotNil(t, f.get("Deployment", "api"), "what runs is left alone")
}

func TestATagThatLacksConfigurationIsBroken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(f.bluegreen("weights: {blue: 50, green: 50}", "1", "2").with(record("2", "")))
	green := f.generations()
	s := statusOf(t, f.apply(f.bluegreen("weights: {blue: 100, green: 0}", "3", "4").with(record("4", "TOKEN"))), "api")
	assert.Equal(t, v1alpha1.ReasonRenderFailed, s.Reason)
	assert.Contains(t, s.Message, "tag green lacks configuration and stays as it is: configuration in production: required key TOKEN is missing")
	assert.Contains(t, s.Hint, "environments/production/api/base/config.env", "where the tags have their configuration")
	assert.Contains(t, f.image("api-blue"), digest("3"), "the other tag is rolled out")
	assert.Equal(t, "api-blue=100 api-green=0", f.weights(), "and green can be left")
	assert.Equal(t, green, f.generations(), "nothing of green is written")
}

// An environment whose promotions do not demand the contract gets what it is given.
func TestConfigurationIsNotDemandedWhereThePolicySaysSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	content := project(f.namespace).requiring("{required: [DATABASE_URL]}")
	first := "environments:\n- {name: development, namespace: development-of-nobody}\n"
	for gates, state := range map[string]reconciler.State{"{config: true}": reconciler.StateFailed, "{healthy: true}": reconciler.StateReady} {
		project := strings.Replace(content["sluice.yaml"], "environments:\n", first, 1) + "  promotion: {gates: " + gates + "}\n"
		s := statusOf(t, f.apply(content.with(files{"sluice.yaml": project})), "api")
		assert.Equal(t, state, s.State, gates)
	}
	require.NotNil(t, f.get("Deployment", "api"))
}
