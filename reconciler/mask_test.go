package reconciler

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
)

func TestMaskedKnowsHowValuesAreQuoted(t *testing.T) {
	values := []string{"first \"line\"\nand <the> next\n", "next"}
	for name, said := range map[string]string{
		"plain":       "got " + values[0] + "!",
		"in one line": "got first \"line\" and <the> next!",
		"Go":          `got "first \"line\"\nand <the> next\n"!`,
		"JSON":        `got "first \"line\"\nand \u003cthe\u003e next\n"!`,
		"base64":      "got Zmlyc3QgImxpbmUiCmFuZCA8dGhlPiBuZXh0Cg==!",
	} {
		text := masked(said, values)
		assert.Contains(t, text, "(secret)", name)
		for _, part := range []string{"first", "line", "next", "Zmlyc"} {
			assert.NotContains(t, text, part, name)
		}
	}
	assert.Equal(t, "nothing of it", masked("nothing of it", values))
}

// told is what callers and the Release are told of a verdict, through the pass.
func told(t *testing.T, w *world, values ...string) (Status, string) {
	t.Helper()
	p := &pass{env: &environment{ledger: newLedger("production")}, release: newReleaseMemory(w.in.key()), in: &w.in, values: values}
	v := w.concluded()
	w.report(v.masked(values)) // as write does
	written := w.in.Last.Status.Conditions[0].Message
	w.in.Namespace.Exists = false // nothing to write to
	s, _, err := p.report(context.Background(), v, nil)
	require.NoError(t, err)
	require.Equal(t, s.Message, written)
	for _, tag := range w.in.Last.Status.Tags {
		written += tag.Message
	}
	return s, written
}

// A pod that ends says what it likes.
func TestVerdictsAreMasked(t *testing.T) {
	pod := corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "api", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "no login as hunter2"}}}}}}
	w := newWorld(t)
	w.tagged("blue=100", sharedObjects(), tag("blue", "one", 1))
	w.pass()
	w.in.Problems[inventory.ID{Namespace: "shop", Name: "api-blue", Group: "apps", Kind: "Deployment"}] = health.PodProblem([]corev1.Pod{pod})
	s, written := told(t, w, "hunter2")
	assert.Contains(t, s.Message, "no login as (secret)")
	assert.Contains(t, s.Tags[0].Message, "no login as (secret)")
	assert.NotContains(t, written, "hunter2")

	db := inventory.ID{Namespace: "shop", Name: "db", Group: "example.com", Kind: "Database"}
	w = newWorld(t)
	w.in.Health = expressions(t)
	w.untagged("sha256:one", database("db"))
	w.pass()
	w.set(db, map[string]any{"phase": "Lost", "why": "the password is hunter2"})
	s, written = told(t, w, "hunter2")
	assert.Contains(t, s.Message, "Lost: the password is (secret)")
	assert.NotContains(t, written, "hunter2")
}
