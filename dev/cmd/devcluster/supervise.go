package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sluice-dev/sluice/dev/cluster"
)

// The files that a supervisor is started with, besides its standard input: on
// that it reads one line, detachLine, once the cluster may outlive its starter.
const (
	lockFile  = 3
	eventFile = 4
)

const detachLine = "detach\n"

// event is what a supervisor tells its starter, one JSON value a line.
type event struct {
	Progress string `json:"progress,omitempty"`
	Ready    *state `json:"ready,omitempty"`
	Error    string `json:"error,omitempty"`
}

// supervisor owns the processes of one cluster.
type supervisor struct {
	home       home
	kubeconfig string
	options    cluster.Options
	events     *json.Encoder
}

func newSuperviseCommand() *cobra.Command {
	var flags clusterFlags
	var kubeconfig string
	command := &cobra.Command{
		Use:    "supervise",
		Short:  "Own the processes of a cluster; started by up and run",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			assets, err := flags.findAssets()
			if err != nil {
				return err
			}
			// What is inherited here must not be inherited further unasked: the
			// starter waits for the end of the events.
			unix.CloseOnExec(lockFile)
			unix.CloseOnExec(eventFile)
			s := &supervisor{
				home:       home{flags.dir},
				kubeconfig: kubeconfig,
				events:     json.NewEncoder(os.NewFile(eventFile, "events")),
			}
			s.options = cluster.Options{
				Dir: flags.dir, Assets: assets, Manifests: flags.manifests,
				Restart: flags.restart, HeapGrowth: flags.gogc,
				Inherit:  []*os.File{os.NewFile(lockFile, "lock")},
				Progress: func(line string) { s.tell(event{Progress: line}) },
			}
			return s.run(command.Context())
		},
	}
	flags.add(command, "", "folder of the cluster")
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig to write")
	return command
}

// tell reports to the starter, which may be gone.
func (s *supervisor) tell(e event) { _ = s.events.Encode(e) }

// run starts the cluster and owns it until ctx is done, a component ends, or
// the starter goes away before it has said that the cluster may stay.
func (s *supervisor) run(ctx context.Context) error {
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	go func() {
		if line, _ := io.ReadAll(os.Stdin); string(line) != detachLine {
			abandon()
		}
	}()
	fmt.Println(time.Now().Format(time.RFC3339), "supervisor", os.Getpid(), "starts")
	if err := s.home.writeState(state{Supervisor: os.Getpid(), Kubeconfig: s.kubeconfig}); err != nil {
		return s.fail(err)
	}
	running, err := cluster.Start(ctx, s.options)
	if err != nil {
		return s.fail(err)
	}
	if err := s.serve(ctx, running); err != nil {
		running.Stop()
		return s.fail(err)
	}
	running.Stop()
	fmt.Println(time.Now().Format(time.RFC3339), "all processes have ended")
	return s.home.clear(logsName)
}

// serve announces the cluster and waits for its end. The error is that of a
// component that ended by itself.
func (s *supervisor) serve(ctx context.Context, running *cluster.Cluster) error {
	if err := s.home.publish(running.Kubeconfig, s.kubeconfig); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	ready, err := s.record(running)
	if err != nil {
		return err
	}
	s.tell(event{Ready: &ready})
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-running.Failed():
			return err
		case <-running.Restarted():
			if _, err := s.record(running); err != nil {
				return err
			}
		}
	}
}

// record writes down which processes run.
func (s *supervisor) record(running *cluster.Cluster) (state, error) {
	now := state{
		Supervisor: os.Getpid(), Server: running.Server,
		Kubeconfig: s.kubeconfig, Components: running.Processes(),
	}
	return now, s.home.writeState(now)
}

// fail reports why there is no cluster; the logs stay to be read.
func (s *supervisor) fail(err error) error {
	if !errors.Is(err, context.Canceled) {
		s.tell(event{Error: err.Error()})
	}
	return errors.Join(err, s.home.clear(logsName))
}
