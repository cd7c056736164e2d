package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/reconciler"
)

func TestOutcomeOf(t *testing.T) {
	status := func(change func(*reconciler.Status)) reconciler.Status {
		s := reconciler.Status{Environment: "production", Release: "api", Revision: "9f8e", State: reconciler.StateReady, Final: true,
			Digest: "sha256:a", Counts: reconciler.Counts{Unchanged: 3}}
		change(&s)
		return s
	}
	tests := []struct {
		name   string
		status reconciler.Status
		tells  bool
		state  promotion.DeploymentState
		fresh  bool
	}{
		{"as it was left", status(func(*reconciler.Status) {}), true, promotion.DeploymentSuccess, false},
		{"applied", status(func(s *reconciler.Status) { s.Counts.Configured = 1 }), true, promotion.DeploymentSuccess, true},
		{"pruned", status(func(s *reconciler.Status) { s.Counts.Pruned = 1 }), true, promotion.DeploymentSuccess, true},
		{"waits", status(func(s *reconciler.Status) { s.State, s.Final = reconciler.StateWaiting, false }), true, promotion.DeploymentInProgress, true},
		{"routes are held for now", status(func(s *reconciler.Status) { s.State, s.Final = reconciler.StateHeld, false }), true, promotion.DeploymentInProgress, true},
		{"has failed", status(func(s *reconciler.Status) { s.State = reconciler.StateFailed }), true, promotion.DeploymentFailure, true},
		{"the API server does not answer", status(func(s *reconciler.Status) {
			s.State, s.Reason = reconciler.StateFailed, v1alpha1.ReasonTransientError
		}), true, promotion.DeploymentInProgress, true},
		{"is paused", status(func(s *reconciler.Status) { s.State = reconciler.StatePaused }), false, promotion.DeploymentInProgress, true},
		{"is removed", status(func(s *reconciler.Status) { s.State = reconciler.StateRemoved }), false, promotion.DeploymentInProgress, true},
		{"no environment", status(func(s *reconciler.Status) { s.Environment = "" }), false, promotion.DeploymentInProgress, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, tells := outcomeOf(tt.status)
			assert.Equal(t, tt.tells, tells)
			if tells {
				assert.Equal(t, tt.state, o.State)
				assert.Equal(t, tt.fresh, o.Fresh)
				assert.Equal(t, []string{"sha256:a"}, o.Digests)
			}
		})
	}
	tagged, _ := outcomeOf(status(func(s *reconciler.Status) {
		s.Digest = ""
		s.Tags = []v1alpha1.TagStatus{{Name: "blue", Digest: "a", Weight: 90}, {Name: "green", Digest: "b", Listed: true}, {Name: "old", Digest: "c"}, {Name: "red", Digest: "a", Listed: true}}
	}))
	assert.Equal(t, []string{"a", "b"}, tagged.Digests, "those that run")
}

func TestReportFlags(t *testing.T) {
	for _, tt := range []struct{ name, arg, want string }{
		{"no environment", "staging.pub", "is not ENVIRONMENT=PATH"},
		{"no file", "staging=", "is not ENVIRONMENT=PATH"},
		{"missing", "staging=nowhere.pub", "nowhere.pub"},
	} {
		a := &app{reportKeyFiles: []string{tt.arg}}
		a.Dir = t.TempDir()
		_, err := a.reportKeys()
		assert.ErrorContains(t, err, tt.want, tt.name)
	}
	a := &app{}
	a.Dir = t.TempDir()
	_, err := a.reportSigner("nowhere.key")
	assert.ErrorContains(t, err, "--report-sign-key")
}

// TestDutiesDelayNobody: a repository that cannot be opened keeps neither reports
// nor the end of the engine waiting.
func TestDutiesDelayNobody(t *testing.T) {
	a := &app{process: process{Getenv: func(string) string { return "" }, Dir: t.TempDir(), Stderr: io.Discard, Now: fixedNow}, repo: "nowhere.git", branch: "main"}
	d, err := a.newDuties(dutyOptions{promote: true, announce: true}, a.logger("info"))
	require.NoError(t, err)
	posted := make(chan struct{}, 1)
	err = d.beside(func(ctx context.Context, o reconciler.RunOptions) error {
		for i := range 1000 {
			d.Report(ctx, reconciler.Status{Environment: "production", Namespace: "p", Release: fmt.Sprint("c", i%3), Revision: "9f8e", State: reconciler.StateReady})
			d.wasLooked()
		}
		posted <- struct{}{}
		<-o.Notify // what the engine is told from outside still reaches it
		return errors.New("the end")
	})(t.Context(), reconciler.RunOptions{Notify: posted})
	require.EqualError(t, err, "the end")
	assert.Len(t, d.early, 3, "the newest of each is kept until it can be told")
}

// TestNothingIsMergedOntoACommitThatIsNotVouchedFor: a merge would sign what
// nobody has signed. Without a service, anything that is asked of it would panic.
func TestNothingIsMergedOntoACommitThatIsNotVouchedFor(t *testing.T) {
	a := &app{process: process{Now: fixedNow}}
	var log strings.Builder
	d, err := a.newDuties(dutyOptions{promote: true}, logr.FromSlogHandler(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	d.attend(ctx, nil, nil, func(context.Context) error {
		asked++
		cancel()
		return errors.New("it is not signed")
	})
	assert.Equal(t, 1, asked)
	assert.Contains(t, log.String(), "it is not signed")
}

func TestNoDuties(t *testing.T) {
	a := &app{process: process{Getenv: func(string) string { return "" }, Dir: t.TempDir(), Stderr: io.Discard}}
	d, err := a.newDuties(dutyOptions{}, a.logger("info"))
	require.NoError(t, err)
	assert.True(t, d.none())
	d.Report(t.Context(), reconciler.Status{Environment: "production", Release: "api", Revision: "9f8e"})
	assert.Empty(t, d.early)
	assert.Empty(t, d.changed)
}
