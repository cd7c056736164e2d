package render_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLintAnnotations(t *testing.T) {
	const blue = "warning environments/production/api/blue: "
	config := func(annotations string) map[string]string {
		return more("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, annotations: {" + annotations + "}}\n")
	}
	for annotations, want := range map[string]string{
		`sluice.dev/recreate: "true", sluice.dev/adopt: "true", sluice.dev/prune: disabled`: "",
		`sluice.dev/recreate: "yes"`:  blue + `ConfigMap shop-production/x-blue has the annotation sluice.dev/recreate: "yes", which does nothing` + "\n",
		`sluice.dev/recreate: "True"`: blue + `ConfigMap shop-production/x-blue has the annotation sluice.dev/recreate: "True", which does nothing` + "\n",
		`sluice.dev/adopt: ""`:        blue + `ConfigMap shop-production/x-blue has the annotation sluice.dev/adopt: "", which does nothing` + "\n",
		`sluice.dev/prune: "false"`:   blue + `ConfigMap shop-production/x-blue has the annotation sluice.dev/prune: "false", which does nothing` + "\n",
	} {
		t.Run(annotations, func(t *testing.T) { assert.Equal(t, want, lint(t, config(annotations))) })
	}
}
