package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// stage is the control plane, the repository and the controller of one run.
type stage struct {
	bin, dir   string
	env        []string
	cluster    dynamic.Interface
	controller *exec.Cmd
	log        *os.File
	claims     int
	typed      []string // the story's commands
}

// newStage starts a control plane and makes a repository from the example. What it
// has started is in the returned stage even on an error.
func newStage(ctx context.Context, bin, dir string, at *host) (*stage, error) {
	s := &stage{bin: bin, dir: dir}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	s.env = append(os.Environ(),
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"KUBECONFIG="+kubeconfig,
		"SLUICE_REPO="+at.url,
		"SLUICE_CACHE_DIR="+filepath.Join(dir, "cache"),
		"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Demo", "GIT_AUTHOR_EMAIL=demo@example.com",
		"GIT_COMMITTER_NAME=Demo", "GIT_COMMITTER_EMAIL=demo@example.com",
	)
	s.env = append(s.env, at.env...)
	s.heading("A control plane and a repository")
	if err := s.run(ctx, "devcluster", "up", "--dir", filepath.Join(dir, "cluster"), "--kubeconfig", kubeconfig); err != nil {
		return s, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return s, err
	}
	if s.cluster, err = dynamic.NewForConfig(config); err != nil {
		return s, err
	}
	if err := s.makeRepository(ctx, at); err != nil {
		return s, err
	}
	return s, s.startController(ctx)
}

// makeRepository commits the example to a fresh repository, a bare one unless it is
// a server's, and leaves a clone of it in which the story's git commands run.
func (s *stage) makeRepository(ctx context.Context, at *host) error {
	clone := filepath.Join(s.dir, "shop")
	if err := os.CopyFS(clone, os.DirFS("examples/shop")); err != nil {
		return err
	}
	steps := [][]string{
		{"-C", clone, "init", "-q", "-b", "main"},
		{"-C", clone, "remote", "add", "origin", at.url},
		{"-C", clone, "add", "-A"},
		{"-C", clone, "commit", "-q", "-m", "The shop as it runs today"},
		{"-C", clone, "push", "-q", "-u", "origin", "main"},
	}
	if at.bare {
		steps = append([][]string{{"init", "-q", "--bare", "-b", "main", at.url}}, steps...)
	}
	for _, args := range steps {
		if out, err := s.command(ctx, "git", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	fmt.Println("$ export " + at.shown)
	return nil
}

// startController runs `sluice controller` in the background for the rest of
// the story.
func (s *stage) startController(ctx context.Context) error {
	log, err := os.Create(filepath.Join(s.dir, "controller.log"))
	if err != nil {
		return err
	}
	s.log = log
	address, err := freeAddress()
	if err != nil {
		return err
	}
	args := []string{"controller", "--environment", "all", "--poll-interval", "1s", "--notify-address", address}
	for _, env := range []string{"development", "staging", "production"} {
		args = append(args, "--age-key-file", env+"=examples/keys/"+env+".agekey")
	}
	fmt.Printf("$ sluice %s &\n", strings.Join(args, " "))
	s.controller = s.command(ctx, "sluice", args...)
	s.controller.Stdout, s.controller.Stderr = log, log
	s.controller.Cancel = func() error { return s.controller.Process.Signal(syscall.SIGTERM) }
	s.controller.WaitDelay = 10 * time.Second
	return s.controller.Start()
}

// freeAddress finds a loopback address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// clear stops what the stage started.
func (s *stage) clear() error {
	var errs []error
	if s.controller != nil && s.controller.Process != nil {
		_ = s.controller.Process.Signal(syscall.SIGTERM)
		if err := s.controller.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("the controller did not end well: %w", err))
		}
	}
	if s.log != nil {
		s.log.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := s.command(ctx, "devcluster", "down", "--dir", filepath.Join(s.dir, "cluster")).CombinedOutput(); err != nil {
		errs = append(errs, fmt.Errorf("stopping the control plane: %w: %s", err, out))
	}
	return errors.Join(errs...)
}

// showController prints the end of the controller's log after a failure.
func (s *stage) showController() {
	data, err := os.ReadFile(filepath.Join(s.dir, "controller.log"))
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	fmt.Println("\nThe controller's last lines:")
	for _, l := range lines[max(0, len(lines)-30):] {
		fmt.Println("  " + l)
	}
}

func (s *stage) heading(title string) { fmt.Printf("\n== %s\n", title) }

func (s *stage) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	program := name
	if local := filepath.Join(s.bin, name); fileExists(local) {
		program = local
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = s.env
	return cmd
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// run prints a command and its output as a user would see them.
func (s *stage) run(ctx context.Context, name string, args ...string) error {
	_, err := s.output(ctx, name, args...)
	return err
}

// output is run that also returns standard output.
func (s *stage) output(ctx context.Context, name string, args ...string) (string, error) {
	line := s.line(name, args)
	s.typed = append(s.typed, line)
	fmt.Printf("$ %s\n", line)
	cmd := s.command(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &out), os.Stdout
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w", line, err)
	}
	return out.String(), nil
}

// fails is run for a command that must be refused.
func (s *stage) fails(ctx context.Context, name string, args ...string) error {
	var exit *exec.ExitError
	if err := s.run(ctx, name, args...); err == nil {
		return fmt.Errorf("%s succeeded and must not have", s.line(name, args))
	} else if !errors.As(err, &exit) {
		return err
	}
	return nil
}

// line is a command line as a person would type it: in the demo's folder,
// words with spaces quoted.
func (s *stage) line(name string, args []string) string {
	words := []string{name}
	for _, a := range args {
		a = strings.ReplaceAll(a, s.dir+string(os.PathSeparator), "")
		if strings.ContainsAny(a, " \"'") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
