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

func main() {
	bin := flag.String("bin", "bin", "folder of sluice, devcluster and the control plane")
	keep := flag.Bool("keep", false, "leave the repository and the control plane's files in place")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := play(ctx, *bin, *keep, nil); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// play sets the stage, tells the story and clears the stage again, whatever
// happens in between. host has the repository; nil is a bare one in a folder.
func play(ctx context.Context, bin string, keep bool, host *forgeHost) (err error) {
	began := time.Now()
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return err
	}
	if !keep {
		defer os.RemoveAll(dir)
	}
	s, err := newStage(ctx, bin, dir, host)
	if s != nil {
		defer func() { err = errors.Join(err, s.clear()) }()
	}
	if err != nil {
		return err
	}
	for _, scene := range scenes {
		s.heading(scene.title)
		if err := scene.play(ctx, s); err != nil {
			s.showController()
			return fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	fmt.Printf("\nEvery claim held: %d of them, in %s.\n", s.claims, time.Since(began).Round(time.Second))
	return nil
}
