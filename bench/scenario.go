package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-dev/sluice/bench/figures"
	"github.com/sluice-dev/sluice/reconciler/heap"
)

// Sizes of a run. What is small shows that a scenario works, in seconds.
const (
	full  = "full"
	small = "small"
)

// scenario is one thing that is measured, in a process of its own.
type scenario struct {
	name    string
	title   string
	cluster bool // it needs one control plane
	run     func(ctx context.Context, b *bench) error
}

var scenarios = []scenario{
	{"push", "Push to applied: from the end of a git push until the API server has the new digest", true, runPush},
	{"rest", "At rest: nothing happens; and a resync, which looks at every release", true, runRest},
	{"sync", "First sync: every object of every release applied to an empty namespace", false, runSync},
	{"render", "Render: overlays a second", false, runRender},
	{"writers", "Writers: commands that write to one repository at the same time", false, runWriters},
	{"git", "Git: a repository of many components and a long history", false, runGit},
	{"memory", "Memory: resident memory of sluice controller, with its program file", true, runMemory},
	{"drift", "Drift: from somebody's write until the declared state is back", true, runDrift},
}

func titles() (out []string) {
	for _, s := range scenarios {
		out = append(out, fmt.Sprintf("  %-8s %s", s.name, s.title))
	}
	return out
}

func choose(names string) ([]scenario, error) {
	if names == "" {
		return scenarios, nil
	}
	var out []scenario
	for name := range strings.SplitSeq(names, ",") {
		at := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no scenario %q; --help lists them", name)
		}
		out = append(out, scenarios[at])
	}
	return out, nil
}

// measure runs scenarios one after the other and puts their figures together. Those
// of the ones that ended well are returned with the error of one that did not.
func measure(ctx context.Context, o options, chosen []scenario) (all figures.Figures, err error) {
	all = figures.Figures{Began: time.Now().UTC().Truncate(time.Second), Size: o.size, Machine: machine(), Versions: versions(ctx, o.bin)}
	self, err := os.Executable()
	if err != nil {
		return all, err
	}
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return all, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	defer func() { all.Seconds = time.Since(all.Began).Round(time.Second).Seconds() }()
	for i, s := range chosen {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%d/%d %s\n", i+1, len(chosen), s.name)
		args := []string{self, "--child", "--scenario", s.name, "--size", o.size, "--bin", o.bin, "--out", dir, "--profile", o.profile}
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return all, fmt.Errorf("scenario %s: %w", s.name, err)
		}
		part, err := read(filepath.Join(dir, s.name+".json"))
		if err != nil {
			return all, err
		}
		all.Scenarios = append(all.Scenarios, figures.Title{Scenario: s.name, Text: s.title})
		all.Figures = append(all.Figures, part.Figures...)
		fmt.Fprintf(os.Stderr, "    %s took %s\n", s.name, time.Since(began).Round(time.Second))
	}
	return all, nil
}

// bench is what a scenario has to work with.
type bench struct {
	scenario scenario
	size     string
	bin      string
	dir      string       // removed afterwards
	config   *rest.Config // nil outside of onControlPlane
	profile  string       // folder, or ""
	figures  []figures.Figure
	atEnd    []func() error // what is owed to the cluster
	heaped   bool
}

// child runs one scenario in this process.
func child(ctx context.Context, o options, s scenario) (err error) {
	heap.Relax()                  // as sluice controller does
	log.SetLogger(logr.Discard()) // controller-runtime complains when nobody does
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Minute, errors.New("it takes too long"))
	defer cancel()
	b := &bench{scenario: s, size: o.size, bin: o.bin, profile: o.profile}
	if b.dir, err = os.MkdirTemp("", "sluice-bench-"+s.name+"-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.profile != "" {
		stop, err := b.cpuProfile()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	run := func() error { return s.run(ctx, b) }
	if s.cluster {
		err = b.onControlPlane(ctx, run)
	} else {
		err = run()
	}
	if err != nil {
		return err
	}
	if !b.heaped {
		err = b.heapProfile()
	}
	return errors.Join(err, writeFigures(filepath.Join(o.out, s.name+".json"), figures.Figures{Figures: b.figures}))
}

func (b *bench) record(f figures.Figure) {
	f.Scenario = b.scenario.name
	b.figures = append(b.figures, f)
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "    %s: %s\n", b.scenario.name, fmt.Sprintf(format, args...))
}

func (b *bench) sizes(whenFull, whenSmall []int) []int {
	if b.size == small {
		return whenSmall
	}
	return whenFull
}

func (b *bench) samples(whenFull, whenSmall int) int {
	if b.size == small {
		return whenSmall
	}
	return whenFull
}

// cpuProfile profiles this process until it is told to stop.
func (b *bench) cpuProfile() (stop func() error, err error) {
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(b.profilePath("cpu"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

func (b *bench) profilePath(kind string) string {
	return filepath.Join(b.profile, b.scenario.name+"."+kind+".pprof")
}

// heapProfile keeps what is alive, if that is asked for. Scenarios call it while they
// hold what they measure, and the last time stays; for one that does not, the end
// stands.
func (b *bench) heapProfile() (err error) {
	b.heaped = true
	if b.profile == "" {
		return nil
	}
	liveHeap() // collects
	f, err := os.Create(b.profilePath("heap"))
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}

// fetchProfile keeps a profile of another process.
func (b *bench) fetchProfile(ctx context.Context, url, kind string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	f, err := os.Create(b.profilePath(kind))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, response.Body)
	return errors.Join(err, f.Close())
}
