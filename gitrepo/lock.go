package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/go-git/go-billy/v5/osfs"
)

// fileLock excludes other processes, and other Repositories of this one, that
// share a mirror. It is the kernel's lock on an open file: it ends with the
// process that holds it, so that a crash leaves no stale lock behind and the
// file itself may stay.
type fileLock struct{ path string }

// acquire waits for the lock until ctx ends.
func (l fileLock) acquire(ctx context.Context) (release func(), err error) {
	f, err := osfs.New(filepath.Dir(l.path)).Create(filepath.Base(l.path))
	if err != nil {
		return nil, fmt.Errorf("locking the cache: %w", err)
	}
	// The wait cannot be interrupted. When ctx ends first, await leaves it to
	// itself and the lock is given back as soon as it comes.
	_, err = await(ctx, func() (struct{}, error) {
		for {
			if err := f.Lock(); !errors.Is(err, syscall.EINTR) {
				return struct{}{}, err
			}
		}
	}, func(struct{}) { f.Close() })
	if err != nil {
		return nil, fmt.Errorf("waiting for another process that uses the cache: %w", err)
	}
	return func() { f.Close() }, nil
}

// await runs f and returns what it returns, or ctx's error as soon as ctx
// ends. What f returns after that goes to late. It is for calls of libraries
// that do not know contexts.
func await[T any](ctx context.Context, f func() (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil && late != nil {
				late(r.value)
			}
		}()
		var zero T
		return zero, ctx.Err()
	}
}
