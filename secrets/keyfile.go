package secrets

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"sync"
)

// maxKeyFile bounds each file with keys or credentials, in bytes.
const maxKeyFile = 1 << 20

// getter gives what a file of keys or credentials holds now.
type getter[T any] interface {
	get() (T, error)
}

// constant is a getter of what never changes.
type constant[T any] struct{ value T }

func (c constant[T]) get() (T, error) { return c.value, nil }

// watchedFile is a file of keys or credentials that configuration names. A
// regular file is read whenever it is used and parsed when it has changed:
// mounted Secrets and tokens are renewed in place. Anything else, such as a
// pipe, can be read only once.
type watchedFile[T any] struct {
	path  string
	what  string                                    // what it holds, for errors
	parse func(name string, data []byte) (T, error) // its errors must not quote the file

	mu     sync.Mutex
	loaded bool
	once   bool // it cannot be read again
	sum    [sha256.Size]byte
	value  T
}

func (w *watchedFile[T]) get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loaded && w.once {
		return w.value, nil
	}
	var none T
	data, regular, err := readBounded(w.path)
	if err != nil {
		return none, fmt.Errorf("reading %s: %w", w.what, err)
	}
	sum := sha256.Sum256(data)
	if w.loaded && sum == w.sum {
		return w.value, nil
	}
	value, err := w.parse(w.path, data)
	if err != nil {
		return none, err
	}
	w.loaded, w.once, w.sum, w.value = true, !regular, sum, value
	return value, nil
}

// readBounded reads a file, one byte beyond the limit at most.
func readBounded(path string) (data []byte, regular bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	data, err = io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, false, err
	}
	if len(data) > maxKeyFile {
		return nil, false, &KeyFileError{File: path, Reason: "it is larger than 1 MiB"}
	}
	return data, info.Mode().IsRegular(), nil
}
