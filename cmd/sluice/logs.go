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
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
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
deployment. With --follow it stays, takes in pods as they come, opens what
breaks off again where it ended, and ends when the release has left the cluster.

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

// logSource is a run of a container whose log is read.
type logSource struct {
	pod, container string
	uid            types.UID // of the pod
	restarts       int32     // of the container before it
}

func (a *app) showLogs(ctx context.Context, name string, o logsOptions) error {
	if o.since < 0 || o.tail < -1 {
		return usagef("--since and --tail must not be negative")
	}
	releases, chosen, err := a.chosenReleases(ctx, []string{o.environment}, []string{name})
	if err != nil {
		return err
	}
	l := &logs{client: releases.client, out: a.Stdout, paint: a.painter(a.Stdout), raw: !isTerminal(a.Stdout), options: o, now: a.Now, wait: pause, warn: a.note}
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

// podLogs is where logs come from.
type podLogs interface {
	Logs(ctx context.Context, namespace, pod string, o corev1.PodLogOptions) (io.ReadCloser, error)
	// Pod is nil when there is none of the name.
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
}

// logs prints the logs of containers, line by line.
type logs struct {
	client  podLogs
	options logsOptions
	paint   paint
	raw     bool // lines are printed byte by byte
	now     func() time.Time
	wait    func(context.Context, time.Duration) bool // until ctx ends: false
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
			sources = append(sources, logSource{pod.Name, s.Name, pod.UID, s.RestartCount})
		}
	}
	return sources
}

// copy prints what a log holds now.
func (l *logs) copy(ctx context.Context, namespace string, s logSource) error {
	o := l.asked(s, l.now())
	o.Previous = l.options.previous
	stream, err := l.client.Logs(ctx, namespace, s.pod, o)
	if err != nil {
		return err
	}
	defer stream.Close()
	lines := bufio.NewReaderSize(stream, longestLine)
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return s.brokenOff(err)
		}
		if err := l.print(s, line); err != nil {
			return err
		}
	}
}

// longestLine is printed as one; what is longer comes as several.
const longestLine = 64 << 10

// asked is what the options ask for of a log, at a time.
func (l *logs) asked(s logSource, now time.Time) corev1.PodLogOptions {
	o := corev1.PodLogOptions{Container: s.container}
	if l.options.since > 0 {
		from := metav1.NewTime(now.Add(-l.options.since))
		o.SinceTime = &from
	}
	if l.options.tail >= 0 {
		o.TailLines = &l.options.tail
	}
	return o
}

func (s logSource) brokenOff(err error) error {
	return fmt.Errorf("reading the log of Pod/%s (container %s): %w", s.pod, s.container, err)
}

// print writes a line, with where it comes from before it.
func (l *logs) print(s logSource, line []byte) error {
	prefix, text := l.paint.with(podColour(s.pod), s.pod+" "+s.container)+" ", string(line)
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
