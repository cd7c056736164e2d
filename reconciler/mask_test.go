package reconciler

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
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

// However much of a value a clip has left, of it nothing is told that is as long as
// the shortest value looked for. Clips are of all packages: they end in the same
// sign.
func TestMaskedTakesOutWhatAClipHasLeft(t *testing.T) {
	const value = "s3cr\"t\nof <many> words, über alles"
	for name, said := range map[string]string{
		"plain":       value,
		"in one line": `s3cr"t of <many> words, über alles`,
		"Go":          strconv.Quote(value),
		"base64":      base64.StdEncoding.EncodeToString([]byte(value)),
	} {
		said = strings.Trim(said, `"`)
		for cut := shortestMasked; cut < len(said); cut++ {
			for _, end := range []string{"", " (container api); and more"} {
				left := strings.ToValidUTF8(said[:cut], "") + "…"
				text := masked("api: no login as "+left+end, []string{"other", value})
				assert.Equal(t, "api: no login as (secret)…"+end, text, "%s cut at %d", name, cut)
			}
		}
	}
	assert.Equal(t, "no s3… and… (secret)…", masked("no s3… and… s3cr…", []string{value}), "two letters say nothing")
	long := strings.Repeat("x", 5000)
	assert.Equal(t, "got (secret)…", masked("got "+long[:40]+"…", []string{long}), "a value may be longer than the message")
}

// told is what callers and the Release are told of a verdict, through the pass.
func told(t *testing.T, w *world, values ...string) (Status, string) {
	t.Helper()
	p := &pass{env: &environment{ledger: newLedger("production")}, release: newReleaseMemory(w.in.key()), in: &w.in, values: values}
	v := w.concluded()
	w.report(v.masked(values)) // as write does
	written := w.in.Last.Status.Conditions[0].Message
	w.in.Namespace.Exists = false // nothing to write to
	s, _, err := p.report(context.Background(), v, StageReport, nil)
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

	// Its message is clipped before anybody who knows the value sees it.
	halved := 0
	for padding := 230; padding < 300; padding++ {
		pod.Status.ContainerStatuses[0].LastTerminationState.Terminated.Message = strings.Repeat("x", padding) + " hunter2-and-more"
		w = newWorld(t)
		w.tagged("blue=100", sharedObjects(), tag("blue", "one", 1))
		w.pass()
		w.in.Problems[inventory.ID{Namespace: "shop", Name: "api-blue", Group: "apps", Kind: "Deployment"}] = health.PodProblem([]corev1.Pod{pod})
		s, written = told(t, w, "hunter2-and-more")
		assert.NotContains(t, written+s.Message, "hun", padding)
		if strings.Contains(s.Message, "(secret)…") {
			halved++
		}
	}
	assert.Equal(t, len("hunter2-and-more")-shortestMasked, halved, "wherever it is cut")

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
