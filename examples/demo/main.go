// Command demo plays the main job of Sluice once through, on a fresh control
// plane and a fresh repository: it prints each command as a user would type
// it, with its output, checks each claim against the API server, and fails if
// one does not hold. `make demo` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options say how the demo is played.
type options struct {
	bin   string // folder of the programs
	keep  bool   // leave the files behind
	forge string // a key of hosts
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of sluice, devcluster and the control plane")
	flag.BoolVar(&o.keep, "keep", false, "leave the repository and the control plane's files in place")
	flag.StringVar(&o.forge, "forge", "local", "what keeps the pull requests: local, the bare repository itself, or github, the GitHub server of the tests")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if _, err := play(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// play sets the stage, tells the story and clears the stage again, whatever
// happens in between. It returns the commands that were typed.
func play(ctx context.Context, o options) (typed []string, err error) {
	began := time.Now()
	open, known := hosts[o.forge]
	if !known {
		return nil, fmt.Errorf("unknown forge %q: use local or github", o.forge)
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return nil, err
	}
	if !o.keep {
		defer os.RemoveAll(dir)
	}
	at, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	s, err := newStage(ctx, bin, dir, at)
	if s != nil {
		defer func() { err = errors.Join(err, s.clear()) }()
	}
	if err != nil {
		return nil, err
	}
	for _, scene := range scenes {
		s.heading(scene.title)
		if err := scene.play(ctx, s); err != nil {
			s.showController()
			return nil, fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	fmt.Printf("\nEvery claim held: %d of them, in %s.\n", s.claims, time.Since(began).Round(time.Second))
	return s.typed, nil
}
