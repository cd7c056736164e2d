package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

type logsOptions struct {
	environment, tag, container string
	follow, previous            bool
	since                       time.Duration
	tail                        int64
}

func newLogsCommand(a *app) *cobra.Command {
	var o logsOptions
	c := &cobra.Command{
		Use:   "logs COMPONENT --environment ENVIRONMENT",
		Short: "Print what the pods of a release write",
		Long: `Prints the logs of a release's pods, each line with its pod before it; of pods
with several containers, with the container too. --tag takes those of one
deployment. With --follow it stays, and takes in pods as they come.

The lines are the workloads' own and are printed as they are: Sluice masks
secrets in what it says itself, not here. Control characters are taken out on a
terminal, but colours.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.showLogs(c.Context(), args[0], o) },
	}
	environmentFlag(c, &o.environment)
	f := c.Flags()
	f.StringVar(&o.tag, "tag", "", "only the pods of this deployment `tag`")
	f.StringVar(&o.container, "container", "", "only this `container` (default: all)")
	f.BoolVarP(&o.follow, "follow", "f", false, "stay, and print new lines")
	f.BoolVar(&o.previous, "previous", false, "of the run before the last restart")
	f.DurationVar(&o.since, "since", 0, "only lines of the last `time`, such as 10m")
	f.Int64Var(&o.tail, "tail", -1, "only the last `lines` of each container (default: all)")
	c.MarkFlagsMutuallyExclusive("follow", "previous")
	return c
}

// logSource is a container whose log is read.
type logSource struct{ pod, container, run string }

func (a *app) showLogs(ctx context.Context, name string, o logsOptions) error {
	if o.since < 0 || o.tail < -1 {
		return usagef("--since and --tail must not be negative")
	}
	releases, chosen, err := a.chosenReleases(ctx, []string{o.environment}, []string{name})
	if err != nil {
		return err
	}
	l := &logs{client: releases.client, out: a.Stdout, paint: a.painter(a.Stdout), raw: !isTerminal(a.Stdout), options: o, now: a.Now, warn: a.note}
	if o.follow {
		return l.follow(ctx, releases, &chosen[0])
	}
	sources, err := l.sources(ctx, releases, &chosen[0])
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return withHint(fmt.Errorf("no container of %s/%s has written anything%s", o.environment, name, l.within()), "sluice explain %s --environment %s shows its pods, and sluice events why they do not start", name, o.environment)
	}
	var failed []error
	for _, s := range sources {
		if err := l.copy(ctx, chosen[0].Namespace, s); err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(failed...)
}

// logs prints the logs of containers, line by line.
type logs struct {
	client  *cluster.Client
	options logsOptions
	paint   paint
	raw     bool // lines are printed byte by byte
	now     func() time.Time
	warn    func(format string, args ...any)

	mu  sync.Mutex
	out io.Writer
}

// within says which containers were looked for.
func (l *logs) within() string {
	var parts []string
	if l.options.tag != "" {
		parts = append(parts, "tag "+l.options.tag)
	}
	if l.options.container != "" {
		parts = append(parts, "container "+l.options.container)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// sources are the containers of a release that have a log, by pod.
func (l *logs) sources(ctx context.Context, releases *clusterReleases, rel *v1alpha1.Release) ([]logSource, error) {
	workloads, err := releases.workloads(ctx, rel, l.options.tag)
	if err != nil {
		return nil, err
	}
	var sources []logSource
	for _, w := range workloads {
		for i := range w.pods {
			sources = append(sources, logSources(&w.pods[i], l.options)...)
		}
	}
	return sources, nil
}

// logSources are the containers of a pod that have written something: in the run that
// is asked for.
func logSources(pod *corev1.Pod, o logsOptions) []logSource {
	var sources []logSource
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if o.container != "" && s.Name != o.container {
			continue
		}
		state := s.State
		if o.previous {
			state = s.LastTerminationState
		}
		ran := state.Running != nil || state.Terminated != nil
		if !ran && !o.previous && s.LastTerminationState.Terminated != nil {
			ran = true // between two runs of a crash loop the last one is read
		}
		if ran {
			sources = append(sources, logSource{pod.Name, s.Name, fmt.Sprintf("%s/%d", pod.UID, s.RestartCount)})
		}
	}
	return sources
}

// copy prints one log until it ends.
func (l *logs) copy(ctx context.Context, namespace string, s logSource) error {
	o := corev1.PodLogOptions{Container: s.container, Follow: l.options.follow, Previous: l.options.previous}
	if l.options.since > 0 {
		from := metav1.NewTime(l.now().Add(-l.options.since))
		o.SinceTime = &from
	}
	if l.options.tail >= 0 {
		o.TailLines = &l.options.tail
	}
	stream, err := l.client.Logs(ctx, namespace, s.pod, o)
	if err != nil {
		return err
	}
	defer stream.Close()
	prefix := l.paint.with(podColour(s.pod), s.pod+" "+s.container) + " "
	lines := bufio.NewReaderSize(stream, 64<<10)
	for {
		line, _, err := lines.ReadLine() // what is longer comes as several
		if err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("reading the log of Pod/%s (container %s): %w", s.pod, s.container, err)
		}
		if err := l.print(prefix, line); err != nil {
			return err
		}
	}
}

func (l *logs) print(prefix string, line []byte) error {
	text := string(line)
	if !l.raw {
		text = tame(text, l.paint.on)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprint(l.out, prefix, text, "\n")
	return err
}

var colourCode = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// tame takes out of a line what would drive a terminal, all but colours, which end
// with the line.
func tame(line string, colours bool) string {
	var b strings.Builder
	rest, coloured := line, false
	for {
		at := colourCode.FindStringIndex(rest)
		if at == nil {
			break
		}
		b.WriteString(printable(rest[:at[0]]))
		if colours {
			b.WriteString(rest[at[0]:at[1]])
			coloured = true
		}
		rest = rest[at[1]:]
	}
	b.WriteString(printable(rest))
	if coloured {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// podColour is a colour by which a pod is known among others.
func podColour(pod string) string {
	colours := []string{"36", "33", "35", "32", "34", "96", "93", "95", "92", "94"}
	h := fnv.New32a()
	_, _ = h.Write([]byte(pod))
	return colours[h.Sum32()%uint32(len(colours))]
}

// mostFollowed bounds how many logs are followed at a time.
const mostFollowed = 100

// follow prints logs until ctx ends, those of pods that come among them.
func (l *logs) follow(ctx context.Context, releases *clusterReleases, rel *v1alpha1.Release) error {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	changed := make(chan struct{}, 1)
	notify := func(*cluster.Metadata, bool) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	releases.client.Watch(ctx, rel.Namespace, corev1.SchemeGroupVersion.WithKind("Pod"), cluster.WatchOptions{Event: notify, Failed: func(error) {}})
	begun, room := map[logSource]bool{}, make(chan struct{}, mostFollowed)
	for first := true; ; first = false {
		sources, err := l.sources(ctx, releases, rel)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		}
		for _, s := range sources {
			if begun[s] {
				continue
			}
			select {
			case room <- struct{}{}:
			default:
				continue // when there is room and something changes
			}
			begun[s] = true
			following.Go(func() {
				defer func() { <-room }()
				if err := l.copy(ctx, rel.Namespace, s); err != nil && ctx.Err() == nil {
					l.warn("warning: %v", err) // the pod may have gone
				}
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if now, err := releases.again(ctx, []v1alpha1.Release{*rel}); err == nil && len(now) == 1 {
			rel = &now[0] // it may have other workloads
		}
	}
}
