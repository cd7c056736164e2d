package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"k8s.io/client-go/tools/clientcmd"
)

// onControlPlane runs something on a control plane that has just begun, and ends it
// afterwards; in there may be one more. Its components collect their garbage as Go does
// by itself. Where SLUICE_TEST_KUBECONFIG names a cluster, devcluster takes that one.
func (b *bench) onControlPlane(ctx context.Context, run func() error) (err error) {
	// devcluster ends the cluster when its command ends, and the command ends with our
	// end of its standard input, however we end.
	cmd := exec.Command(filepath.Join(b.bin, "devcluster"), "run", "--gogc", "0", "--", "sh", "-c", `echo "$KUBECONFIG"; cat`)
	var said bytes.Buffer
	cmd.Stderr = &said
	alive, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting a control plane: %w", err)
	}
	ended := func() error {
		if err := errors.Join(alive.Close(), cmd.Wait()); err != nil {
			return fmt.Errorf("the control plane: %w: %s", err, bytes.TrimSpace(said.Bytes()))
		}
		return nil
	}
	defer func() { err = errors.Join(err, ended()) }()
	line := bufio.NewScanner(out)
	if !line.Scan() {
		return errors.Join(errors.New("starting a control plane"), context.Cause(ctx), line.Err())
	}
	before, kubeconfig, owed := b.config, os.Getenv("KUBECONFIG"), b.atEnd
	if err := b.connect(line.Text()); err != nil {
		return err
	}
	b.atEnd = nil
	defer func() {
		for _, end := range slices.Backward(b.atEnd) {
			err = errors.Join(err, end())
		}
		b.config, b.atEnd = before, owed
		err = errors.Join(err, os.Setenv("KUBECONFIG", kubeconfig))
	}()
	return run()
}

// connect takes a cluster for what follows, in the processes that are started as well.
func (b *bench) connect(kubeconfig string) (err error) {
	if b.config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	b.config.QPS = -1
	return os.Setenv("KUBECONFIG", kubeconfig)
}
