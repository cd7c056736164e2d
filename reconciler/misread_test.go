package reconciler_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler"
)

// A mistake in one environment's entry of sluice.yaml holds that environment, and
// no other; one that is about the whole file holds all.
func TestAMisreadEntryHoldsItsEnvironmentOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.engine = f.newEngine(func(c *reconciler.Config) {
		c.Environments = append(c.Environments, reconciler.EnvironmentConfig{Name: "staging", Namespace: f.namespace + "-staging"})
	})
	first := project(f.namespace)
	f.ready(first)
	change := func(value, project string) files {
		return first.with(files{"sluice.yaml": project, "environments/production/api/config.yaml": config(value)})
	}
	flawed := first["sluice.yaml"] + "- {name: staging, namespace: " + f.namespace + "-staging, paused: maybe}\n"
	f.ready(change("two", flawed))
	assert.NotNil(t, f.get("ConfigMap", "api-two"))
	_, err := f.engine.Converge(context.Background(), "staging", "", nil)
	var file *envrepo.FileError
	require.ErrorAs(t, err, &file)
	assert.Equal(t, "environments[1].paused", file.Field)

	f.branch.push(change("three", first["sluice.yaml"]+"stagin: {}\n"))
	_, err = f.engine.Converge(context.Background(), "production", "", nil)
	require.ErrorAs(t, err, &file)
	assert.NotNil(t, f.get("ConfigMap", "api-two"), "everything stays as it is")
	assert.Nil(t, f.get("ConfigMap", "api-three"))
}
