package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// scriptedLog is the log of a container whose streams break off where a script says.
// It serves what a kubelet does: lines since a second, each with its time before it.
type scriptedLog struct {
	whole  []scriptedLine
	script []scriptedStream // one for each time the log is opened; then it is whole
	asked  []corev1.PodLogOptions
	looks  int
	// pod is what there is of the pod at the nth look; nil: ended.
	pod func(look int) (*corev1.Pod, error)
}

type scriptedLine struct {
	at   time.Time
	text string
}

// scriptedStream has the lines that were written by then, as far as it holds.
type scriptedStream struct {
	lines, bytes int   // bytes counts from the end
	end          error // io.EOF: as if that were all
	refused      error // it is not opened at all
}

func (l *scriptedLog) Logs(_ context.Context, _, _ string, o corev1.PodLogOptions) (io.ReadCloser, error) {
	now := scriptedStream{lines: len(l.whole), end: io.EOF}
	if n := len(l.asked); n < len(l.script) {
		now = l.script[n]
	}
	l.asked = append(l.asked, o)
	if now.refused != nil {
		return nil, now.refused
	}
	var b strings.Builder
	for _, line := range l.whole[:now.lines] {
		if o.SinceTime == nil || !line.at.Before(o.SinceTime.Truncate(time.Second)) {
			b.WriteString(line.at.Format(time.RFC3339Nano) + " " + line.text)
		}
	}
	text := b.String()
	return io.NopCloser(io.MultiReader(strings.NewReader(text[:max(0, len(text)-now.bytes)]), endingIn{now.end})), nil
}

func (l *scriptedLog) Pod(context.Context, string, string) (*corev1.Pod, error) {
	l.looks++
	if l.pod == nil {
		return podWith("u", 1, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}), nil
	}
	return l.pod(l.looks - 1)
}

type endingIn struct{ error }

func (e endingIn) Read([]byte) (int, error) { return 0, e.error }

func podWith(uid types.UID, restarts int32, state corev1.ContainerState) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "api-x", UID: uid}, Status: corev1.PodStatus{
		ContainerStatuses: []corev1.ContainerStatus{{Name: "sidecar"}, {Name: "api", RestartCount: restarts, State: state}}}}
}

var runningNow = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}

// stayed follows a scripted log, and returns what was printed, what was warned of, and
// the delays that were waited for.
func stayed(t *testing.T, from *scriptedLog, o logsOptions) (printed string, warned []string, delays []time.Duration, err error) {
	t.Helper()
	var out bytes.Buffer
	l := &logs{client: from, out: &out, raw: true, now: fixedNow, options: o,
		wait: func(_ context.Context, d time.Duration) bool { delays = append(delays, d); return len(delays) < 50 },
		warn: func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) }}
	err = l.stay(t.Context(), "shop", logSource{pod: "api-x", container: "api", uid: "u", restarts: 1})
	return out.String(), warned, delays, err
}

// TestLogsThatBreakOff: wherever streams end, and however that looks, every line is
// printed once and in its order.
func TestLogsThatBreakOff(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100)
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(7, seed))
		from := &scriptedLog{}
		at, want := fixedNow(), ""
		for i := range 1 + r.IntN(12) {
			at = at.Add(time.Duration(r.IntN(3)) * 300 * time.Millisecond) // several at one time, too
			text := fmt.Sprintf("line %d %s", i, long[:r.IntN(len(long))])
			from.whole = append(from.whole, scriptedLine{at, text + "\n"})
			want += "api-x api " + text + "\n"
		}
		if r.IntN(3) == 0 { // the last words have no end
			from.whole[len(from.whole)-1].text = "panic"
			want = want[:strings.LastIndex(strings.TrimSuffix(want, "\n"), "\n")+1] + "api-x api panic\n"
		}
		lines := 0
		for range r.IntN(6) {
			lines += r.IntN(len(from.whole) - lines + 1)
			end := []error{io.EOF, io.ErrUnexpectedEOF}[r.IntN(2)]
			from.script = append(from.script, scriptedStream{lines: lines, bytes: r.IntN(60), end: end})
		}
		streams := len(from.script)
		from.pod = func(look int) (*corev1.Pod, error) {
			switch {
			case look < streams && r.IntN(5) == 0:
				return nil, errors.New("the API server restarts")
			case look < streams:
				return podWith("u", 1, runningNow), nil
			}
			return podWith("u", 1, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}), nil
		}
		printed, _, _, err := stayed(t, from, logsOptions{follow: true, tail: -1})
		require.NoError(t, err)
		require.Equal(t, want, printed, "seed %d: %+v", seed, from.script)
	}
}

func TestLogsThatBreakOffAreOpenedAgain(t *testing.T) {
	t.Parallel()
	reset := errors.New("connection reset by peer")
	half := fixedNow().Add(500 * time.Millisecond)
	lines := []scriptedLine{{fixedNow(), "one\n"}, {half, "two\n"}, {half, "three\n"}}
	still := func(looks int, then *corev1.Pod) func(int) (*corev1.Pod, error) {
		return func(look int) (*corev1.Pod, error) {
			if look < looks {
				return podWith("u", 1, runningNow), nil
			}
			return then, nil
		}
	}
	since := func(at time.Time) *metav1.Time { return &metav1.Time{Time: at} }
	follow := corev1.PodLogOptions{Container: "api", Timestamps: true, Follow: true}
	after := follow
	after.SinceTime = since(fixedNow())

	t.Run("until the pod is gone", func(t *testing.T) {
		five := int64(5)
		first := follow
		first.TailLines = &five
		from := &scriptedLog{whole: lines, script: []scriptedStream{{lines: 2, end: reset}, {refused: reset}, {refused: reset}, {lines: 3, bytes: 3, end: io.EOF}}, pod: still(3, nil)}
		printed, warned, delays, err := stayed(t, from, logsOptions{follow: true, tail: five})
		require.NoError(t, err)
		assert.Equal(t, "api-x api one\napi-x api two\napi-x api thr\n", printed, "what has no end is the last that there is")
		assert.Equal(t, []string{"warning: connection reset by peer; trying again"}, warned)
		assert.Equal(t, []time.Duration{firstReopen, 2 * firstReopen, 4 * firstReopen}, delays)
		assert.Equal(t, []corev1.PodLogOptions{first, after, after, after}, from.asked)
	})
	t.Run("less and less often", func(t *testing.T) {
		from := &scriptedLog{whole: lines, script: make([]scriptedStream, 10), pod: still(10, nil)}
		for i := range from.script {
			from.script[i] = scriptedStream{lines: 0, end: io.EOF} // idle, and nothing is wrong
		}
		_, warned, delays, err := stayed(t, from, logsOptions{follow: true})
		require.NoError(t, err)
		assert.Empty(t, warned)
		assert.Equal(t, []time.Duration{firstReopen, 2 * firstReopen}, delays[:2])
		assert.Equal(t, []time.Duration{lastReopen, lastReopen}, delays[len(delays)-2:])
		assert.Equal(t, after, from.asked[1], "who wanted new lines only gets those since then")
	})
	t.Run("the run is over", func(t *testing.T) {
		from := &scriptedLog{whole: lines, script: []scriptedStream{{lines: 1, end: reset}}, pod: still(0, podWith("u", 2, runningNow))}
		printed, _, _, err := stayed(t, from, logsOptions{follow: true, tail: -1})
		require.NoError(t, err)
		assert.Equal(t, "api-x api one\napi-x api two\napi-x api three\n", printed)
		last := after
		last.Follow, last.Previous = false, true
		assert.Equal(t, []corev1.PodLogOptions{follow, last}, from.asked)
	})
	for name, pod := range map[string]*corev1.Pod{"another pod": podWith("v", 1, runningNow), "two runs later": podWith("u", 3, runningNow)} {
		t.Run(name, func(t *testing.T) {
			from := &scriptedLog{whole: lines, pod: still(0, pod)}
			_, _, delays, err := stayed(t, from, logsOptions{follow: true, tail: -1})
			require.NoError(t, err)
			assert.Empty(t, delays)
			assert.Len(t, from.asked, 1)
		})
	}
	t.Run("without the right", func(t *testing.T) {
		from := &scriptedLog{whole: lines, script: []scriptedStream{{refused: &cluster.AccessError{Doing: "reading", Cause: reset}}}}
		_, _, delays, err := stayed(t, from, logsOptions{follow: true, tail: -1})
		var access *cluster.AccessError
		require.ErrorAs(t, err, &access)
		assert.Empty(t, delays)
	})
}

// TestLogsOfKubelets: what a kubelet says itself has no time, and long lines come in
// parts.
func TestLogsOfKubelets(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", longestLine)
	from := &scriptedLog{whole: []scriptedLine{{fixedNow(), long + "\n"}, {fixedNow(), "two\r\n"}, {fixedNow(), "\n"}}}
	printed, _, _, err := stayed(t, from, logsOptions{follow: true, tail: -1})
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(printed, "two\n"))
	assert.Equal(t, longestLine, strings.Count(printed, "y"))
	assert.True(t, strings.HasSuffix(printed, "api-x api two\napi-x api \n"), "%q", printed[len(printed)-40:])

	for line, want := range map[string]string{"unable to retrieve container logs": "unable to retrieve container logs", "2026-11-21T10:0": "", "\n": "\n", "": ""} {
		at, text := stamped([]byte(line))
		assert.Zero(t, at)
		assert.Equal(t, want, string(text), "%q", line)
	}
}
