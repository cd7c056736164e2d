// Command bench measures what Sluice costs, on a development control plane, beside
// baselines of the same run. `make bench` runs it; docs/benchmarks.md says how it
// measures.
//
// Each scenario runs in a process of its own, and those that need a cluster on a
// fresh one, so that none pays for another. The first process collects what they
// have measured, prints the table, and writes figures.json and the plots.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sluice-dev/sluice/bench/figures"
)

type options struct {
	scenarios string
	size      string
	profile   string
	out       string
	bin       string
	check     string
	figures   string
	docs      string
	child     bool
}

func main() {
	var o options
	flag.StringVar(&o.scenarios, "scenario", "", "scenarios to run, separated by commas (default: all)\n"+strings.Join(titles(), "\n"))
	flag.StringVar(&o.size, "size", full, "full, or small for trying out")
	flag.StringVar(&o.profile, "profile", "", "folder for a CPU and a heap profile of each scenario")
	flag.StringVar(&o.out, "out", "", "folder for figures.json and the plots (default: none are written)")
	flag.StringVar(&o.bin, "bin", "../bin", "folder of devcluster, sluice and kubectl")
	flag.StringVar(&o.check, "check", "", "stored figures.json to compare with; a clear regression is an error")
	flag.StringVar(&o.figures, "figures", "", "figures.json to print, draw and compare, instead of measuring")
	flag.StringVar(&o.docs, "docs", "", "documents in which what they quote of the figures is renewed, separated by commas; with --out")
	flag.BoolVar(&o.child, "child", false, "run one scenario here, and write its figures into --out (used by the program itself)")
	flag.Parse()
	if flag.NArg() > 0 {
		fail(fmt.Errorf("unknown argument %s; see --help", flag.Arg(0)))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func run(ctx context.Context, o options) error {
	for _, folder := range []*string{&o.profile, &o.out, &o.bin} {
		if *folder != "" {
			absolute, err := filepath.Abs(*folder)
			if err != nil {
				return err
			}
			*folder = absolute
		}
	}
	if o.size != full && o.size != small {
		return fmt.Errorf("--size %s: it is full or small", o.size)
	}
	chosen, err := choose(o.scenarios)
	if err != nil {
		return err
	}
	if o.child {
		return child(ctx, o, chosen[0])
	}
	// The stored figures are read before anything is written: the two may be one file.
	var stored figures.Figures
	if o.check != "" {
		if stored, err = read(o.check); err != nil {
			return err
		}
	}
	var measured figures.Figures
	if o.figures != "" {
		measured, err = read(o.figures)
	} else {
		measured, err = measure(ctx, o, chosen)
	}
	fmt.Print(measured.Table())
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := write(o.out, measured); err != nil {
			return err
		}
		if err := document(strings.FieldsFunc(o.docs, func(c rune) bool { return c == ',' }), o.out, measured); err != nil {
			return err
		}
	}
	if o.check != "" {
		return compare(stored, measured)
	}
	return nil
}

func read(path string) (figures.Figures, error) {
	f, err := os.Open(path)
	if err != nil {
		return figures.Figures{}, err
	}
	defer func() { _ = f.Close() }()
	return figures.Read(f)
}

// write puts figures.json and the plots into a folder.
func write(dir string, f figures.Figures) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := writeFigures(filepath.Join(dir, "figures.json"), f); err != nil {
		return err
	}
	for name, drawing := range f.Plots() {
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), []byte(drawing), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// document renews what documents quote. plots is the folder of the plots.
func document(paths []string, plots string, f figures.Figures) error {
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(filepath.Dir(absolute), plots)
		if err != nil {
			return err
		}
		filled, err := f.Filled(string(text), filepath.ToSlash(below)+"/")
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(filled), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func writeFigures(path string, f figures.Figures) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Write(file), file.Close())
}

// compare prints what has become worse.
func compare(stored, measured figures.Figures) error {
	worse, compared := figures.Check(stored, measured)
	fmt.Printf("\n%d ratios and counts compared with those of %s\n", compared, stored.Began.UTC().Format("2006-01-02"))
	for _, regression := range worse {
		fmt.Println("regression:", regression)
	}
	switch {
	case compared == 0:
		return errors.New("nothing could be compared: the stored figures are of other scenarios or of another size")
	case len(worse) > 0:
		return fmt.Errorf("%d of %d became clearly worse; `make bench PROFILE=folder` keeps profiles", len(worse), compared)
	}
	return nil
}
