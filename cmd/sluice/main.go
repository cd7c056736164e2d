// Command sluice runs services on Kubernetes from one Git repository: it
// records builds, promotes digests by pull request, moves traffic by commits,
// and reconciles a cluster with what the repository says.
//
// main wires the packages together; each command stands in a file of its own
// with an options type, and run, the function that tests call, is the only
// way in. Nothing else in the module prints or exits.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(mainCode()) }

// mainCode runs the command line of this process and returns its exit code.
func mainCode() int {
	_ = forbidCoreDumps() // where the system refuses, there is nothing better to do than to go on
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends what is being done in good order; a second one is
	// not caught any more and ends the process.
	context.AfterFunc(ctx, stop)
	if err := trustBuiltInRoots(); err != nil {
		printError(os.Stderr, false, err)
		return exitError
	}
	wd, err := os.Getwd()
	if err != nil {
		wd = "."
	}
	return run(ctx, os.Args[1:], process{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Dir: wd, Now: time.Now,
	})
}

// process is what a command may touch of the process it runs in.
type process struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Dir            string // working directory
	Now            func() time.Time
}

// run executes one command line and returns the exit code of exitCode.
func run(ctx context.Context, args []string, p process) int {
	a := &app{process: p}
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := unpanicked(func() error { return root.ExecuteContext(ctx) })
	if a.onClose != nil {
		a.onClose()
	}
	if err != nil {
		printError(p.Stderr, a.colour(p.Stderr), err)
	}
	return exitCode(err)
}
