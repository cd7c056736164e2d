//go:build e2e && linux

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wholeRun reports whether no test was left out: only then are there figures.
func wholeRun() bool {
	for _, name := range []string{"test.run", "test.skip"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}

// describe tells what is measured, and where.
func (f *Figures) describe(ctx context.Context, w *world) error {
	kubernetes, err := w.kube.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	traefik, err := w.command(ctx, w.traefik, "version").Output()
	if err != nil {
		return fmt.Errorf("asking traefik for its version: %w", err)
	}
	_, version, _ := strings.Cut(string(traefik), "Version:")
	f.Date = time.Now().UTC().Format(time.DateOnly)
	f.Machine = fmt.Sprintf("%d cores (%s, %s/%s; load average %s before the run)", runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH, loadAverage())
	f.Versions = []string{"Traefik " + strings.Fields(version)[0], "Kubernetes " + strings.TrimPrefix(kubernetes.GitVersion, "v")}
	f.Load = fmt.Sprintf("The load is %d requests a second over %d connections.", perSecond, workers)
	return nil
}

// loadAverage is that of the last minute: what else the machine does.
func loadAverage() string {
	data, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(data), " ")
	return cmp.Or(one, "unknown")
}

func processor() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// write writes the figures and their table.
func (f Figures) write() error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	docs, err := os.ReadFile(DocsFile)
	if err != nil {
		return err
	}
	text, err := f.Tabulated(string(docs))
	if err != nil {
		return err
	}
	if err := os.WriteFile(FiguresFile, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(DocsFile, []byte(text), 0o644)
}

func (w *world) record(t *testing.T, m Measurement) {
	t.Logf("%s: %d requests, %d lost: %s", m.What, m.Requests, m.Lost, m.Found)
	w.figures.Measurements = append(w.figures.Measurements, m)
}

// lossless checks that a load was large enough and lost nothing, and records it.
func (w *world) lossless(t *testing.T, what string, answers []answer, found string, values ...any) {
	t.Helper()
	n, text := losses(answers)
	assert.GreaterOrEqual(t, len(answers), Enough, "%s: too few requests to say anything", what)
	if !assert.Zero(t, n, "%s: requests were lost:\n%s", what, text) {
		w.explain(t)
	}
	w.record(t, Measurement{What: what, Requests: len(answers), Lost: n, Found: fmt.Sprintf(found, values...)})
}

// lossy checks that a load did lose something: that losses are seen.
func (w *world) lossy(t *testing.T, what string, answers []answer, found string, values ...any) {
	t.Helper()
	n, text := losses(answers)
	require.NotZero(t, n, "%s: nothing was lost, so that the measurement without it says nothing", what)
	t.Log(text)
	w.record(t, Measurement{What: what, Requests: len(answers), Lost: n, Found: fmt.Sprintf(found, values...), Control: true})
}

// explain prints what the controller and the gateway have said last.
func (w *world) explain(t *testing.T) {
	t.Helper()
	for _, name := range []string{"controller.log", "refused.log"} {
		data, err := os.ReadFile(w.path(name))
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		t.Logf("the end of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// seconds is a duration for people: 1.2 s.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

var drainField = regexp.MustCompile(`drain: \w+`)

// setDrain changes the drain of the environment in sluice.yaml, and puts it back
// when the test ends.
func (w *world) setDrain(t *testing.T, drain string) {
	t.Helper()
	var before string
	set := func(drain string) {
		w.edit(t, "drain: "+drain, func(dir string) {
			file := filepath.Join(dir, "sluice.yaml")
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			before = strings.TrimPrefix(drainField.FindString(string(data)), "drain: ")
			require.NoError(t, os.WriteFile(file, drainField.ReplaceAll(data, []byte("drain: "+drain)), 0o644))
		})
	}
	set(drain)
	after := before
	t.Cleanup(func() { set(after) })
}
