package reconciler_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler"
)

// logged keeps lines of a log that are not for debugging.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) into(c *reconciler.Config) {
	c.Log = funcr.New(func(_, line string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, line)
	}, funcr.Options{})
}

// about are the lines that contain a text.
func (l *logged) about(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func TestCorrectionsAndFailuresAreLogged(t *testing.T) {
	t.Parallel()
	l := &logged{}
	d := newDrift(t, func(f *fixture) files { return project(f.namespace) }, l.into)
	const corrected = `"msg"="drift was corrected" "release"="production/api" `
	last := func(object, what string) {
		t.Helper()
		d.eventually("the correction of "+object+" is logged", func() bool { return len(l.about(`"object"="`+object+`"`)) == 1 })
		assert.Equal(t, `"level"=0 `+corrected+`"object"="`+object+`" "namespace"="`+d.namespace+`" `+what, l.about(`"object"="` + object + `"`)[0])
	}
	assert.Empty(t, l.about(corrected), "what is applied for the first time is no correction")

	d.patch("somebody", "ConfigMap", "api-one", `{"data":{"value":"hunter2"}}`)
	last("ConfigMap/api-one", `"changed"="data.value" "by"="somebody"`)
	d.patch("kubectl-edit", "Service", "api", `{"spec":{"publishNotReadyAddresses":true}}`)
	last("Service/api", `"added"="spec.publishNotReadyAddresses" "by"="kubectl-edit"`)
	assert.Empty(t, l.about("hunter2"), "values are not logged")

	route := d.ref("HTTPRoute", "api")
	require.NoError(t, d.api.Delete(context.Background(), route))
	last("HTTPRoute/api", `"deleted"=true`)

	d.branch.push(project(d.namespace).with(files{"environments/production/api/route.yaml": "no: object\n"}))
	d.eventually("a failure is an error", func() bool { return len(l.about(`"error"="rendering api: `)) == 1 })
	assert.Contains(t, l.about(`"error"="rendering api: `)[0], `"msg"="a pass failed"`)
	assert.NotContains(t, l.about(`"error"="rendering api: `)[0], `"level"`, "errors have none")
}
