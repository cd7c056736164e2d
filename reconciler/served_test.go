package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// TestServed follows an untagged release through commits (hash) and its health.
func TestServed(t *testing.T) {
	type step struct {
		hash, digest string
		ready        bool
		failed       bool // the pass ended with an error: nothing was applied
	}
	tests := []struct {
		name  string
		steps []step
		want  string // digest=seconds, oldest first
	}{
		{"replaced while ready", []step{{"1", "a", true, false}, {"1", "a", true, false}, {"2", "b", false, false}}, "a=120"},
		{"replaced at once", []step{{"1", "a", true, false}, {"2", "b", true, false}}, "a=60"},
		{"the first pass over the new commit fails", []step{{"1", "a", true, false}, {"2", "a", false, true}, {"2", "b", true, false}}, "a=60"},
		{"replaced when it was not ready", []step{{"1", "a", true, false}, {"1", "a", false, false}, {"2", "b", true, false}}, ""},
		{"never ready", []step{{"1", "a", false, false}, {"2", "b", true, false}}, ""},
		{"another configuration of the same digest", []step{{"1", "a", true, false}, {"2", "a", false, false}, {"3", "b", true, false}}, ""},
		{"it is back", []step{{"1", "a", true, false}, {"2", "b", true, false}, {"3", "a", false, false}}, "b=60"},
		{"several", []step{{"1", "a", true, false}, {"2", "b", true, false}, {"3", "c", true, false}}, "a=60 b=60"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &Input{Now: start, Release: newWorld(t).in.Release}
			in.Last = newRelease(in)
			for _, s := range tt.steps {
				in.Hash = s.hash
				v := Verdict{State: StateWaiting, Reason: v1alpha1.ReasonApplying, Ready: s.ready, whole: s.ready, applied: !s.failed, digest: s.digest}
				in.Last.Status = statusAfter(in, v)
				in.Now = in.Now.Add(time.Minute)
			}
			assert.Equal(t, tt.want, servedText(in.Last.Status))
		})
	}
}

func servedText(s v1alpha1.ReleaseStatus) string {
	var list []string
	for _, d := range s.Served {
		list = append(list, fmt.Sprintf("%s=%.0f", d.Digest, d.Until.Sub(d.Since.Time).Seconds()))
	}
	return strings.Join(list, " ")
}

func TestServedIsBounded(t *testing.T) {
	in := &Input{Now: start, Release: newWorld(t).in.Release}
	in.Last = newRelease(in)
	for i := range 3 * maxServed {
		in.Hash = fmt.Sprint(i)
		in.Last.Status = statusAfter(in, Verdict{State: StateReady, Ready: true, whole: true, applied: true, digest: fmt.Sprint(i)})
		in.Now = in.Now.Add(time.Minute)
	}
	assert.Len(t, in.Last.Status.Served, maxServed)
	assert.Equal(t, "28", in.Last.Status.Served[maxServed-1].Digest)
}
