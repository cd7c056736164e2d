package reconciler_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

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
	last := func(object, stage, what string) {
		t.Helper()
		d.eventually("the correction of "+object+" is logged", func() bool { return len(l.about(`"object"="`+object+`"`)) == 1 })
		assert.Equal(t, `"level"=0 `+corrected+`"revision"="c0ffee000000" "stage"="`+stage+`" "object"="`+object+`" "namespace"="`+d.namespace+`" `+what, l.about(`"object"="` + object + `"`)[0])
	}
	assert.Empty(t, l.about(corrected), "what is applied for the first time is no correction")

	d.patch("somebody", "ConfigMap", "api-one", `{"data":{"value":"hunter2"}}`)
	last("ConfigMap/api-one", "apply", `"changed"="data.value" "by"="somebody"`)
	d.patch("kubectl-edit", "Service", "api", `{"spec":{"publishNotReadyAddresses":true}}`)
	last("Service/api", "apply", `"added"="spec.publishNotReadyAddresses" "by"="kubectl-edit"`)
	assert.Empty(t, l.about("hunter2"), "values are not logged")

	route := d.ref("HTTPRoute", "api")
	require.NoError(t, d.api.Delete(context.Background(), route))
	last("HTTPRoute/api", "route", `"deleted"=true`)

	d.branch.push(project(d.namespace).with(files{"environments/production/api/route.yaml": "no: object\n"}))
	d.eventually("a failure is an error", func() bool { return len(l.about(`"error"="rendering api: `)) == 1 })
	assert.Contains(t, l.about(`"error"="rendering api: `)[0], `"msg"="a pass failed"`)
	assert.Contains(t, l.about(`"error"="rendering api: `)[0], `"revision"="c0ffee000000" "stage"="render"`)
	assert.NotContains(t, l.about(`"error"="rendering api: `)[0], `"level"`, "errors have none")
}

// Somebody who writes an object between our look at it and our write is no error,
// unless they do so again and again.
func TestWhoWasFasterIsNoFailure(t *testing.T) {
	t.Parallel()
	l := &logged{}
	d := newDrift(t, func(f *fixture) files { return project(f.namespace) }, l.into)
	var before atomic.Int64 // how many more of our writes somebody comes before
	path := "/api/v1/namespaces/" + d.namespace + "/services/api"
	d.line.mu.Lock()
	d.line.instead = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodPatch && r.URL.Path == path && r.Header.Get("Content-Type") == string(types.JSONPatchType) && before.Add(-1) >= 0 {
			d.patch("somebody", "Service", "api", fmt.Sprintf(`{"metadata":{"annotations":{"written":"%d"}}}`, before.Load()))
		}
		return next.RoundTrip(r)
	}
	d.line.mu.Unlock()
	mended := func() bool {
		return d.live("Service", "api").Object["spec"].(map[string]any)["publishNotReadyAddresses"] == nil
	}

	before.Store(3)
	d.patch("kubectl-edit", "Service", "api", `{"spec":{"publishNotReadyAddresses":true}}`)
	d.eventually("it is put right", func() bool { return mended() && before.Load() < 0 })
	assert.Empty(t, l.about("a pass failed"))

	before.Store(100)
	d.patch("kubectl-edit", "Service", "api", `{"spec":{"publishNotReadyAddresses":true}}`)
	d.eventually("a failure is said", func() bool { return len(l.about("a pass failed")) > 0 })
	before.Store(0)
	d.eventually("it is put right", mended)
	assert.Contains(t, l.about("a pass failed")[0], "taking over the fields of Service/api")
}
