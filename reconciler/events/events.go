// Package events writes Kubernetes Events about Releases. Make a Recorder with New,
// give it to the engine as a Reporter, and Run it beside the engine.
//
// An Event tells of a change: a release became ready, failed, held, paused or removed,
// objects were deleted, a commit was refused. Nothing is written at rest, nor for a
// try that fails as the one before. What is said again within the life of an Event is
// counted in its series. Texts are those of statuses, out of which secrets have been
// taken. An Event that cannot be written is lost, and never delays a pass.
package events

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	client "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler"
)

// Bounds.
const (
	// A release that changes all the time may say this many things at once, and one
	// more with each refill.
	releaseBurst  = 10
	releaseRefill = time.Minute
	// All of them together, beyond which they wait, and beyond the queue are lost.
	totalRate, totalBurst = 5, 50
	queueLength           = 500

	maxNote = 1000 // the API takes a kilobyte

	requestTimeout = 5 * time.Second
	lastMoments    = 2 * time.Second // for what is left when it ends
)

// controllerName is who reports.
const controllerName = "sluice.dev/controller"

// reasonPruned is the reason of the Event about deleted objects.
const reasonPruned = "Pruned"

// Recorder writes Events. It is a reconciler.Reporter.
type Recorder struct {
	api      client.EventsV1Interface
	log      logr.Logger
	clock    clock.PassiveClock
	instance string
	queue    chan event
	total    flowcontrol.RateLimiter

	mu       sync.Mutex
	releases map[reconciler.Key]*about
	refused  map[string]reconciler.Status // commits, of environments without a known release

	// Of the goroutine that writes.
	count  map[string]int32 // how often, by name of the Event
	failed string           // last failure that was logged
}

// about is what is known of a release.
type about struct {
	namespace string
	uid       types.UID
	limit     flowcontrol.PassiveRateLimiter
}

// event is one that is to be written.
type event struct {
	key             reconciler.Key
	namespace       string
	uid             types.UID
	kind            string // Normal or Warning
	reason, message string
	at              time.Time
}

// New makes a Recorder; nothing is sent. instance names this process among those of
// the same kind, such as its host name.
func New(config *rest.Config, instance string, log logr.Logger) (*Recorder, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // totalRate does it
	api, err := client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("preparing to write events: %w", err)
	}
	return newRecorder(api, instance, log, clock.RealClock{}), nil
}

func newRecorder(api client.EventsV1Interface, instance string, log logr.Logger, c clock.Clock) *Recorder {
	return &Recorder{
		api: api, log: log, clock: c, instance: cmp.Or(clip(instance, 128), "sluice"), queue: make(chan event, queueLength),
		total:    flowcontrol.NewTokenBucketRateLimiter(totalRate, totalBurst),
		releases: map[reconciler.Key]*about{}, refused: map[string]reconciler.Status{}, count: map[string]int32{},
	}
}

// Report implements reconciler.Reporter: it takes note of what is news.
func (r *Recorder) Report(_ context.Context, s reconciler.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Release == "" {
		if s.Reason == reconciler.ReasonCommitRefused && !r.refusal(s) {
			r.refused[s.Environment] = s // until there is a release to say it of
		}
		return
	}
	key := reconciler.Key{Environment: s.Environment, Release: s.Release}
	if s.UID != "" {
		known := r.releases[key]
		if known == nil {
			known = &about{limit: flowcontrol.NewTokenBucketPassiveRateLimiterWithClock(float32(1/releaseRefill.Seconds()), releaseBurst, r.clock)}
			r.releases[key] = known
		}
		known.namespace, known.uid = s.Namespace, s.UID
	}
	if len(s.Pruned) > 0 {
		r.say(key, corev1.EventTypeNormal, reasonPruned, "deleted, as the repository has them no more: "+strings.Join(s.Pruned, ", "))
	}
	if kind, tells := kindOf(s.State); tells && s.News {
		r.say(key, kind, s.Reason, note(s))
	}
	if s.State == reconciler.StateRemoved {
		delete(r.releases, key)
	}
	if refused, waits := r.refused[s.Environment]; waits && r.refusal(refused) {
		delete(r.refused, s.Environment)
	}
}

// refusal says that a commit was refused: of the environment's own release, or
// the first of another name; false when none is known.
func (r *Recorder) refusal(s reconciler.Status) bool {
	key := reconciler.Key{Environment: s.Environment, Release: envrepo.EnvironmentRelease}
	if r.releases[key] == nil {
		first := ""
		for k := range r.releases {
			if k.Environment == s.Environment && (first == "" || k.Release < first) {
				first = k.Release
			}
		}
		key.Release = first
	}
	if r.releases[key] == nil {
		return false
	}
	r.say(key, corev1.EventTypeWarning, s.Reason, note(s))
	return true
}

// kindOf is the type of the Event about a release that has come to a state; false
// where it is only on its way.
func kindOf(state reconciler.State) (kind string, tells bool) {
	switch state {
	case reconciler.StateReady, reconciler.StatePaused, reconciler.StateRemoved:
		return corev1.EventTypeNormal, true
	case reconciler.StateFailed, reconciler.StateHeld:
		return corev1.EventTypeWarning, true
	}
	return "", false
}

// note is the text about a status.
func note(s reconciler.Status) string {
	text := s.Message
	if s.Revision != "" {
		text = "at " + s.Revision[:min(len(s.Revision), 12)] + ": " + text
	}
	return text
}

// say queues an Event, unless there are too many of the release, or at all.
func (r *Recorder) say(key reconciler.Key, kind, reason, message string) {
	known := r.releases[key]
	if known == nil || !known.limit.TryAccept() {
		return
	}
	e := event{key: key, namespace: known.namespace, uid: known.uid, kind: kind, reason: reason, message: clip(message, maxNote), at: r.clock.Now()}
	select {
	case r.queue <- e:
	default:
		r.log.V(1).Info("an event was dropped: too many wait", "release", key.String(), "reason", reason)
	}
}

// clip cuts a text at whole characters.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// Run writes what is queued until ctx ends, and what is left then for a moment.
func (r *Recorder) Run(ctx context.Context) {
	for {
		select {
		case e := <-r.queue:
			if r.total.Wait(ctx) == nil {
				r.write(ctx, e)
				continue
			}
			r.finish(e)
			return
		case <-ctx.Done():
			r.finish()
			return
		}
	}
}

// finish writes what is left, within a bound.
func (r *Recorder) finish(left ...event) {
	ctx, cancel := context.WithTimeout(context.Background(), lastMoments)
	defer cancel()
	for _, e := range left {
		r.write(ctx, e)
	}
	for ctx.Err() == nil {
		select {
		case e := <-r.queue:
			r.write(ctx, e)
		default:
			return
		}
	}
}

// write creates an Event, or counts one that is still there. Its name follows from
// what it says of which object, so that a controller which has restarted finds it.
func (r *Recorder) write(ctx context.Context, e event) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	full := e.build(r.instance)
	created, err := r.api.Events(e.namespace).Create(ctx, full, metav1.CreateOptions{FieldManager: "sluice"})
	switch {
	case err == nil:
		r.count[created.Name] = 1
	case apierrors.IsAlreadyExists(err):
		err = r.again(ctx, e, full.Name)
	}
	r.outcome(e, err)
}

// again counts an Event once more.
func (r *Recorder) again(ctx context.Context, e event, name string) error {
	n := r.count[name]
	if n == 0 { // of a process before this one
		before, err := r.api.Events(e.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if before.Series != nil {
			n = before.Series.Count
		}
	}
	n = max(n, 1) + 1
	patch, err := json.Marshal(map[string]any{"series": eventsv1.EventSeries{Count: n, LastObservedTime: metav1.NewMicroTime(e.at)}})
	if err != nil {
		return err
	}
	_, err = r.api.Events(e.namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "sluice"})
	if err == nil {
		r.count[name] = n
	}
	return err
}

// outcome forgets counts before they are too many, and logs a failure once, until
// there is another one or none.
func (r *Recorder) outcome(e event, err error) {
	const mostCounts = 10_000
	if len(r.count) > mostCounts {
		clear(r.count)
	}
	if err == nil {
		r.failed = ""
		return
	}
	if text := string(apierrors.ReasonForError(err)); text != r.failed || text == "" {
		if r.failed == "" || text != "" {
			r.log.Error(err, "an event could not be written", "release", e.key.String(), "reason", e.reason)
		}
		r.failed = cmp.Or(text, "unknown")
	}
}

// build is the Event.
func (e event) build(instance string) *eventsv1.Event {
	sum := sha256.Sum256([]byte(strings.Join([]string{string(e.uid), e.kind, e.reason, e.message}, "\x00")))
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.namespace, Name: clip(e.key.Release, 200) + "." + hex.EncodeToString(sum[:8]),
		},
		EventTime: metav1.NewMicroTime(e.at), ReportingController: controllerName, ReportingInstance: instance,
		Action: "Reconcile", Type: e.kind, Reason: e.reason, Note: e.message,
		Regarding: corev1.ObjectReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.ReleaseKind, Namespace: e.namespace, Name: e.key.Release, UID: e.uid,
		},
	}
}
