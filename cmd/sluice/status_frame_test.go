package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// fleet are releases in all sorts of states, and many that are well.
func fleet(now time.Time, well int) []releaseStatus {
	since := now.Add(-3 * time.Minute)
	list := []releaseStatus{
		{Environment: "production", Release: "api", State: "Ready", Reason: "Ready", Since: &since, Refused: &v1alpha1.RefusedCommit{Revision: strings.Repeat("9f8e", 10), Message: "it is not signed", Hint: "sign it, or revert it"},
			summary: v1alpha1.Summary{Digests: "blue=3f2a9c0d41e7 green=77ab01c94d2e", Traffic: "blue=90 green=10"}},
		{Environment: "production", Release: "web", State: "Reconciling", Reason: "WaitingForHealth", Message: "Deployment/web: 1 of 2 replicas updated", Since: &since, summary: v1alpha1.Summary{Digests: "1111aaaa2222"}},
		{Environment: "staging", Release: "web", State: "Stalled", Reason: "HealthTimeout", Message: strings.Repeat("pod web-5bd997484d-7b9n7 is not pulled: ", 8) + "\x1b[2J", Hint: "push a fix or revert", Since: &since, summary: v1alpha1.Summary{Digests: "bad0bad0bad0"}},
		{Environment: "staging", Release: "new", State: "Unknown", Declared: []releaseState{{Build: "1111aaaa2222"}}},
	}
	for i := range well {
		list = append(list, releaseStatus{Environment: "development", Release: fmt.Sprintf("service-%02d", i), State: "Ready", Since: &since, summary: v1alpha1.Summary{Digests: "1111aaaa2222"}})
	}
	return list
}

func TestFrame(t *testing.T) {
	now := fixedNow()
	assert.Equal(t, `24 releases: 1 Stalled, 1 Unknown, 1 Reconciling, 21 Ready          10:00:00 UTC

RELEASE                 STATE        STAGE         RUNS          TRAFFIC   SINCE
staging/web             Stalled      ▰▰▱▱▱ wait ✗  bad0bad0bad0  -         3m
production/api          Ready        ▰▰▰▰▰         blue=3f2a9c…  blue=90…  3m
staging/new             Unknown      -             1111aaaa2222  -         -
production/web          Reconciling  ▰▰▱▱▱ wait    1111aaaa2222  -         3m
development/service-00  Ready        ▰▰▰▰▰         1111aaaa2222  -         3m
development/service-01  Ready        ▰▰▰▰▰         1111aaaa2222  -         3m
and 18 more releases, all ready

staging/web: HealthTimeout: pod web-5bd997484d-7b9n7 is not pulled: pod
  web-5bd997484d-7b9n7 is not pulled: pod web-5bd997484d-7b9n7 is not pulled:
  pod web-5bd997484d-7b9n7 is not pulled: pod web-5bd997484d-7b9n7 is not …
  hint: push a fix or revert

production: commit 9f8e9f8e9f8e is refused: it is not signed
  hint: sign it, or revert it

production/web: WaitingForHealth: Deployment/web: 1 of 2 replicas updated`, strings.Join(frame{now, 80, 20, paint{}}.lines(fleet(now, 20)), "\n"))
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// TestFrameFits: nothing is wider or longer than the terminal, whatever that is, and
// what is not well is shown first.
func TestFrameFits(t *testing.T) {
	now := fixedNow()
	for _, size := range [][2]int{{200, 60}, {80, 24}, {80, 10}, {60, 6}, {20, 5}, {1, 1}} {
		for _, well := range []int{0, 3, 500} {
			for _, on := range []bool{false, true} {
				lines := frame{now, size[0], size[1], paint{on}}.lines(fleet(now, well))
				assert.LessOrEqual(t, len(lines), size[1], "%v with %d", size, well)
				for _, l := range lines {
					plain := escapes.ReplaceAllString(l, "")
					assert.LessOrEqual(t, utf8.RuneCountInString(plain), size[0], "%v with %d: %q", size, well, plain)
					assert.NotContains(t, plain, "\x1b", "what a message holds")
				}
			}
		}
	}
	assert.Contains(t, frame{now, 80, 24, paint{true}}.lines(fleet(now, 3))[3], "\x1b[31mStalled\x1b[0m")
}

func TestStatusLinesTellChangesOnly(t *testing.T) {
	var out, notes bytes.Buffer
	s := &statusLines{app: &app{process: process{Stdout: &out, Stderr: &notes, Now: fixedNow}}}
	list := fleet(fixedNow(), 0)[:2]
	require.NoError(t, s.show(list))
	require.NoError(t, s.show(fleet(fixedNow(), 0)[:2]))
	list = fleet(fixedNow(), 0)[:2]
	list[1].State, list[1].Reason, list[1].Message = "Ready", "Ready", "7 objects are as declared"
	require.NoError(t, s.show(list))
	require.NoError(t, s.show(list[:1]))
	assert.Equal(t, `2026-11-21T10:00:00Z production/api Ready blue=3f2a9c0d41e7 green=77ab01c94d2e (blue=90 green=10): commit 9f8e9f8e9f8e is refused: it is not signed
2026-11-21T10:00:00Z production/web Reconciling 1111aaaa2222: WaitingForHealth: Deployment/web: 1 of 2 replicas updated
2026-11-21T10:00:00Z production/web Ready 1111aaaa2222
2026-11-21T10:00:00Z production/web Removed 1111aaaa2222: Removed: has left the repository and the cluster
`, out.String())
	for range 2 {
		s.warn("the cluster does not answer")
	}
	assert.Equal(t, "warning: the cluster does not answer\n", notes.String())

	out.Reset()
	s.output, s.last = "json", nil
	require.NoError(t, s.show(list[:1]))
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
	assert.Contains(t, out.String(), `"release":"api"`)
}

func TestMet(t *testing.T) {
	of := func(states ...string) (list []releaseStatus) {
		for _, s := range states {
			list = append(list, releaseStatus{State: s})
		}
		return list
	}
	assert.True(t, met("ready", of("Ready", "Paused")))
	assert.False(t, met("ready", of("Ready", "Stalled")))
	assert.True(t, met("settled", of("Ready", "Stalled")))
	for _, s := range []string{"Reconciling", "OutOfSync", "Unknown", "NotReady"} {
		assert.False(t, met("settled", of("Ready", s)), s)
	}
	assert.False(t, met("", of("Ready")))
}

// TestColoursAreForTerminals only, and for nobody who has asked for none. The null device
// is one, as far as the operating system tells.
func TestColoursAreForTerminals(t *testing.T) {
	t.Parallel()
	terminal, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer terminal.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	with := func(name, value string) *app {
		return &app{process: process{Getenv: func(n string) string {
			if n == name {
				return value
			}
			return ""
		}}}
	}
	assert.True(t, with("TERM", "xterm").painter(terminal).on)
	assert.False(t, with("TERM", "xterm").painter(file).on)
	assert.False(t, with("TERM", "xterm").painter(&bytes.Buffer{}).on)
	assert.False(t, with("TERM", "dumb").painter(terminal).on)
	assert.False(t, with("NO_COLOR", "1").painter(terminal).on)
}

// TestWatchOnATerminal draws over what it has drawn, on a screen of its own, and leaves
// the last state on the one that was there.
func TestWatchOnATerminal(t *testing.T) {
	t.Parallel()
	screen, err := os.Create(filepath.Join(t.TempDir(), "screen"))
	require.NoError(t, err)
	defer screen.Close()
	var after bytes.Buffer
	s := &statusTerminal{app: &app{process: process{Stdout: &after, Now: fixedNow}}, file: screen}
	require.NoError(t, s.close())
	require.NoError(t, s.show(fleet(fixedNow(), 0)[:2]))
	s.warn("the cluster does not answer")
	require.NoError(t, s.tick())
	require.NoError(t, s.close())
	drawn, err := os.ReadFile(screen.Name())
	require.NoError(t, err)
	frames := strings.Split(string(drawn), "\x1b[H")
	require.Len(t, frames, 3)
	assert.Equal(t, "\x1b[?1049h\x1b[?25l", frames[0], "another screen, without a cursor")
	assert.True(t, strings.HasPrefix(frames[1], "2 releases: 1 Reconciling, 1 Ready"))
	assert.NotContains(t, frames[1], "does not answer")
	assert.True(t, strings.HasSuffix(frames[2], "warning: the cluster does not answer\x1b[K\x1b[J\x1b[?25h\x1b[?1049l"), "%q", frames[2])
	for _, line := range strings.Split(frames[1], "\r\n") {
		assert.Contains(t, line, "\x1b[K", "what stood there goes")
	}
	assert.Equal(t, 1, strings.Count(after.String(), "production    web"), "%s", after.String())
}
