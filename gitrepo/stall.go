package gitrepo

import (
	"context"
	"fmt"
	"io"
	"time"
)

// stallTimeout is how long a remote may be silent. Git lets a client hear from it
// every five seconds while it prepares a pack, so this is for remotes that hang: a
// transfer that goes on may take as long as it takes.
const stallTimeout = 30 * time.Second

// stalledError is the cause of a context that a watchdog ended.
type stalledError struct{ silence time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("nothing came from the remote for %s", e.silence)
}

// Timeout makes it a timeout, as net.Error knows it.
func (e *stalledError) Timeout() bool { return true }

// watchdog ends a context when nothing has been heard for too long.
type watchdog struct {
	timer    *time.Timer
	patience time.Duration
	end      context.CancelCauseFunc
}

func watch(ctx context.Context, patience time.Duration) (context.Context, *watchdog) {
	ctx, end := context.WithCancelCause(ctx)
	return ctx, &watchdog{
		timer:    time.AfterFunc(patience, func() { end(&stalledError{patience}) }),
		patience: patience, end: end,
	}
}

// stop ends the watch and its context.
func (w *watchdog) stop() {
	w.timer.Stop()
	w.end(nil)
}

// listen passes on what is read. After its end, what is done with it may take its time.
func (w *watchdog) listen(r io.Reader) io.Reader { return &heard{r, w} }

type heard struct {
	io.Reader
	watchdog *watchdog
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if err != nil {
		h.watchdog.timer.Stop()
	} else {
		h.watchdog.timer.Reset(h.watchdog.patience)
	}
	return n, err
}
