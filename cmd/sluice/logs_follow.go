package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// mostFollowed bounds how many logs are followed at a time.
const mostFollowed = 100

// follow prints logs, those of pods that come among them, until ctx ends or the release
// has left the cluster and all that its pods have written is printed.
func (l *logs) follow(ctx context.Context, releases *clusterReleases, rel *v1alpha1.Release) error {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	changed := make(chan struct{}, 1)
	releases.watch(ctx, rel.Namespace, changed)
	releases.client.Watch(ctx, rel.Namespace, corev1.SchemeGroupVersion.WithKind("Pod"), notifying(changed))
	begun, left := map[logSource]bool{}, false
	var open atomic.Int32
	for first := true; ; first = false {
		sources, err := l.sources(ctx, releases, rel)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		}
		for _, s := range sources {
			if begun[s] || open.Load() >= mostFollowed {
				continue // when there is room: the end of another log is a change
			}
			begun[s] = true
			open.Add(1)
			following.Go(func() {
				defer func() { open.Add(-1); notify(changed) }()
				if err := l.stay(ctx, rel.Namespace, s); err != nil && ctx.Err() == nil {
					l.warn("warning: %v", err)
				}
			})
		}
		if left && open.Load() == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if now, err := releases.again(ctx, []v1alpha1.Release{*rel}); err == nil {
			if left = len(now) == 0; !left {
				rel = &now[0] // it may have other workloads
			}
		}
	}
}

// The delays before a log is opened again that broke off: each is twice the one before,
// until something new has come.
const (
	firstReopen = 500 * time.Millisecond
	lastReopen  = 30 * time.Second
)

// stay prints the log of a run of a container until it is complete, or gone with its
// pod. A stream ends with the run, but also when a load balancer finds it idle, a kubelet
// rotates the log, or the API server restarts, and these look alike. So:
//
//  1. A stream is believed to be whole only if the run had ended before it was opened.
//  2. Otherwise it is opened again from the second of the last line on, as the API
//     counts in seconds; what was printed of that second is passed over, told by the
//     times that kubelets give to lines.
//  3. A line without an end is kept back: it is whole in the next stream, and printed
//     as it is when there is none.
func (l *logs) stay(ctx context.Context, namespace string, s logSource) error {
	at, begun := &mark{}, l.now()
	run, failures := running, 0
	for again := false; ; again = true {
		o := l.asked(s, begun)
		if again {
			at.resume(&o, begun)
		}
		o.Timestamps, o.Follow, o.Previous = true, run != replaced, run == replaced
		news, broken := l.read(ctx, namespace, s, o, at)
		switch {
		case ctx.Err() != nil:
			return nil
		case final(broken):
			return broken
		case broken == nil && run != running:
			return l.printRest(s, at)
		}
		now, unknown := l.standing(ctx, namespace, s)
		switch {
		case final(unknown):
			return unknown
		case unknown == nil:
			run = now
		}
		if run == gone {
			return l.printRest(s, at)
		}
		if news {
			failures = 0
		}
		if cause := cmp.Or(unknown, broken); cause != nil && failures == 1 {
			l.warn("warning: %v; trying again", cause)
		}
		if !l.wait(ctx, min(firstReopen<<min(failures, 10), lastReopen)) {
			return nil
		}
		failures++
	}
}

// unprintedError says that what was read could not be written: to a pipe that is closed.
type unprintedError struct{ error }

func (e unprintedError) Unwrap() error { return e.error }

// final reports whether it is of no use to try again.
func final(err error) bool {
	var access *cluster.AccessError
	var unprinted unprintedError
	return errors.As(err, &access) || errors.As(err, &unprinted)
}

// standing is how a run of a container stands.
type standing int

const (
	running  standing = iota
	ended             // its log is whole
	replaced          // likewise, and the log of the container is that of the next run
	gone              // and its log with it
)

// standing asks for the pod of a source.
func (l *logs) standing(ctx context.Context, namespace string, s logSource) (standing, error) {
	pod, err := l.client.Pod(ctx, namespace, s.pod)
	return s.standing(pod), err
}

// standing is how a source stands with its pod, which is nil when there is none.
func (s logSource) standing(pod *corev1.Pod) standing {
	if pod == nil || pod.UID != s.uid {
		return gone
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch {
		case c.Name != s.container:
		case c.RestartCount == s.restarts && c.State.Running != nil:
			return running
		case c.RestartCount == s.restarts:
			return ended
		case c.RestartCount == s.restarts+1:
			return replaced
		}
	}
	return gone
}

// mark is how far a log was printed.
type mark struct {
	second time.Time     // of the newest line
	lines  map[int64]int // those printed since, by their time in nanoseconds
	rest   []byte        // of a line whose end has not come
}

// resume has the log begin at the mark. Where nothing was printed it is what was asked
// for at first; of somebody who wanted new lines only, those since they asked.
func (m *mark) resume(o *corev1.PodLogOptions, asked time.Time) {
	from := m.second
	if from.IsZero() {
		if o.TailLines == nil || *o.TailLines > 0 {
			return
		}
		from = asked
	}
	o.SinceTime, o.TailLines = &metav1.Time{Time: from}, nil
}

func (m *mark) printed(at time.Time) {
	if second := at.Truncate(time.Second); second.After(m.second) {
		m.second, m.lines = second, map[int64]int{}
	}
	if !at.Before(m.second) {
		m.lines[at.UnixNano()]++
	}
}

// read prints what is new in a log until its stream ends, without an error, or breaks.
func (l *logs) read(ctx context.Context, namespace string, s logSource, o corev1.PodLogOptions, at *mark) (news bool, err error) {
	stream, err := l.client.Logs(ctx, namespace, s.pod, o)
	if err != nil {
		return false, err
	}
	defer stream.Close()
	lines := bufio.NewReaderSize(stream, longestLine)
	known := maps.Clone(at.lines)
	at.rest = nil
	var stamp time.Time // of the line that is being read
	var within, skip bool
	for {
		chunk, err := lines.ReadSlice('\n')
		if !within {
			stamp, chunk = stamped(chunk)
			skip = !stamp.IsZero() && known[stamp.UnixNano()] > 0
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if !skip {
				at.rest = bytes.Clone(chunk)
			}
			if errors.Is(err, io.EOF) {
				return news, nil
			}
			return news, s.brokenOff(err)
		}
		within = err != nil
		if skip {
			if !within {
				known[stamp.UnixNano()]--
			}
			continue
		}
		if err := l.print(s, bytes.TrimSuffix(bytes.TrimSuffix(chunk, []byte("\n")), []byte("\r"))); err != nil {
			return news, unprintedError{err}
		}
		news = true
		if !within && !stamp.IsZero() {
			at.printed(stamp)
		}
	}
}

// stamped splits a line into the time that the kubelet has put before it and its text.
// What kubelets say themselves has no time; where not even that is whole there is no
// text either.
func stamped(line []byte) (time.Time, []byte) {
	first, text, found := bytes.Cut(line, []byte(" "))
	if !found && !bytes.HasSuffix(line, []byte("\n")) {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, string(first))
	if err != nil {
		return time.Time{}, line
	}
	return at, text
}

// printRest prints what has no end, as none will come.
func (l *logs) printRest(s logSource, at *mark) error {
	if len(at.rest) == 0 {
		return nil
	}
	return l.print(s, at.rest)
}
