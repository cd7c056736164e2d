package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Ports come from below the usual ephemeral range, where no outgoing connection
// can take one between the moment it is chosen and the moment it is bound.
const (
	firstPort = 20000
	lastPort  = 32000
)

// ports are reserved against other clusters of this machine for as long as the
// locks are held: a component binds its port a second or more after the choice.
type ports struct {
	numbers []int
	locks   []*os.File
}

func reservePorts(count int) (*ports, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("devcluster-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("reserving ports: %w", err)
	}
	reserved := &ports{}
	for range 1000 {
		if len(reserved.numbers) == count {
			return reserved, nil
		}
		if err := reserved.try(dir, firstPort+rand.IntN(lastPort-firstPort)); err != nil {
			reserved.release()
			return nil, fmt.Errorf("reserving ports: %w", err)
		}
	}
	reserved.release()
	return nil, fmt.Errorf("reserving ports: no %d free ports between %d and %d on 127.0.0.1", count, firstPort, lastPort)
}

// try adds the port if it is neither reserved nor in use.
func (p *ports) try(dir string, port int) error {
	lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return lock.Close()
	}
	listener, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return lock.Close()
	}
	p.numbers = append(p.numbers, port)
	p.locks = append(p.locks, lock)
	return listener.Close()
}

func (p *ports) release() {
	for _, lock := range p.locks {
		_ = lock.Close()
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
