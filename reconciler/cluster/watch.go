package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// WatchOptions say what a View holds and whom it tells.
type WatchOptions struct {
	// Name restricts the view to the object of that name; "" for none.
	Name string
	// Index is a label that Labelled finds objects by; "" for none.
	Index string
	// Foreign are field managers; see Metadata.
	Foreign []string
	// Event is told of every change, once the view has taken it in. It must return
	// soon, and is never called from two goroutines at a time.
	Event func(object *Metadata, deleted bool)
	// Failed is told why a watch broke off. It is taken up again by itself.
	Failed func(error)
}

// Pauses between attempts to watch. Whoever is not allowed to, or asks for a
// kind that is not served, will mostly not be a second later. The long pauses end
// early when somebody wants to know something of the kind: the right may have been
// given.
const (
	rewatchMin    = 200 * time.Millisecond
	rewatchMax    = 10 * time.Second
	rewatchDenied = 5 * time.Minute
)

// Watch makes a view of the objects of one kind in a namespace ("" for a kind
// without) and keeps it up to date until ctx ends. It returns at once; see
// View.Wait. Only metadata is watched, of all objects, whoever's they are.
//
// A watch that breaks off is taken up again without losing a change, at another
// version when the cluster has ceased to serve the one that is asked for.
func (c *Client) Watch(ctx context.Context, namespace string, gvk schema.GroupVersionKind, o WatchOptions) *View {
	v := newView(gvk, o)
	go c.keep(ctx, v, namespace, o)
	return v
}

func (c *Client) keep(ctx context.Context, v *View, namespace string, o WatchOptions) {
	usual, denied := pauses(rewatchMin, rewatchMax), pauses(time.Second, rewatchDenied)
	for ctx.Err() == nil {
		started := time.Now()
		err := c.listAndWatch(ctx, v, namespace, o)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > rewatchMax {
			usual, denied = pauses(rewatchMin, rewatchMax), pauses(time.Second, rewatchDenied)
		}
		v.fail()
		least := usual.Step()
		most := least
		if err != nil {
			o.Failed(c.explain(err, "watching %s", v.Kind().Kind))
			if c.denied(ctx, v, err) {
				most = denied.Step()
				least = min(most, wait.Jitter(rewatchMax, 0.5))
			}
		}
		pauseUntil(ctx, least, most, v.wanted)
	}
}

// pauseUntil waits for the longer time, or from the shorter one on until somebody
// wants it to end.
func pauseUntil(ctx context.Context, least, most time.Duration, wanted <-chan struct{}) {
	pause(ctx, least)
	select {
	case <-ctx.Done():
	case <-wanted:
	case <-time.After(most - least):
	}
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// pauses grow from the first to the last. One that denies us may be mistaken for
// a moment, so that begins with a short one too.
func pauses(first, last time.Duration) wait.Backoff {
	return wait.Backoff{Duration: first, Cap: last, Factor: 2, Steps: 16, Jitter: 0.5}
}

// denied reports whether another attempt will most likely not do any better. A
// view of a version that is not served any more goes on at another one.
func (c *Client) denied(ctx context.Context, v *View, err error) bool {
	if apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) {
		return true
	}
	if !unserved(err) {
		return false
	}
	served, found, err := c.servedAs(ctx, v.Kind().GroupKind())
	if err == nil && found {
		v.serveAs(served)
	}
	return err == nil && !found
}

// listAndWatch returns when the watch has to begin anew; nil when it just ended.
func (c *Client) listAndWatch(ctx context.Context, v *View, namespace string, o WatchOptions) error {
	mapping, err := c.mapper.RESTMapping(v.Kind().GroupKind(), v.Kind().Version)
	if err != nil {
		return err
	}
	var resource metadata.ResourceInterface = c.metadata.Resource(mapping.Resource)
	if namespace != "" {
		resource = c.metadata.Resource(mapping.Resource).Namespace(namespace)
	}
	narrow := func(options *metav1.ListOptions) {
		if o.Name != "" {
			options.FieldSelector = "metadata.name=" + o.Name
		}
	}
	broken := func(err error) error {
		if err != nil && ctx.Err() == nil {
			v.fail()
		}
		return err
	}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			ctx, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			narrow(&options)
			if options.ResourceVersion == "0" {
				options.ResourceVersion = "" // any state will not do: what is absent counts
			}
			list, err := resource.List(ctx, options)
			return list, broken(err)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			narrow(&options)
			w, err := resource.Watch(ctx, options)
			if err == nil && options.SendInitialEvents == nil {
				v.resume() // from where it broke off
			}
			return w, broken(err)
		},
	}
	source.WatchFuncWithContext = (&pacer{pauses: pauses(rewatchMin, rewatchMax), pause: pause}).pace(source.WatchFuncWithContext)
	again := pauses(rewatchMin, rewatchMax)
	reflector := cache.NewReflectorWithOptions(source, &metav1.PartialObjectMetadata{}, v, cache.ReflectorOptions{
		Name:    v.Kind().String(),
		Backoff: &again,
	})
	// Errors come back to us; the library would log them to standard error.
	return reflector.ListAndWatchWithContext(klog.NewContext(ctx, logr.Discard()))
}

// pacer has a watch that begins with all that there is not begin anew without a
// pause. When such a stream ends early, or is answered with "expired", the library
// asks for another at once, which is right the first time only.
type pacer struct {
	pauses wait.Backoff
	pause  func(context.Context, time.Duration)
	ended  int // streams in a row
}

func (p *pacer) pace(watches cache.WatchFuncWithContext) cache.WatchFuncWithContext {
	return func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		if options.SendInitialEvents == nil {
			return watches(ctx, options)
		}
		if p.ended > 1 {
			p.pause(ctx, p.pauses.Step())
		}
		w, err := watches(ctx, options)
		if err == nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			p.ended++ // after other errors the library pauses itself
		}
		return w, err
	}
}

var errNotMetadata = errors.New("not the metadata of an object")

// view is a reflector's store. It compacts what it is given before it is kept.
var (
	_ cache.TransformingStore      = (*View)(nil)
	_ cache.ResourceVersionUpdater = (*View)(nil)
)

// Transformer compacts objects while a list is being read.
func (v *View) Transformer() cache.TransformFunc {
	return func(object any) (any, error) { return v.compact(object) }
}

func (v *View) compact(object any) (*Metadata, error) {
	switch o := object.(type) {
	case *Metadata:
		return o, nil
	case *metav1.PartialObjectMetadata:
		m := &Metadata{ObjectMeta: o.ObjectMeta}
		for _, entry := range o.ManagedFields {
			m.Foreign = m.Foreign || entry.Subresource == "" && slices.Contains(v.foreign, entry.Manager)
		}
		m.ManagedFields = nil // most of an object's metadata
		m.CreationTimestamp = metav1.Time{}
		m.Namespace = v.interned(m.Namespace)
		m.Labels = v.internedMap(m.Labels)
		m.Annotations = v.internedMap(CompactAnnotations(m.Annotations))
		return m, nil
	case cache.DeletedFinalStateUnknown:
		return v.compact(o.Obj)
	}
	return nil, fmt.Errorf("%T: %w", object, errNotMetadata)
}
