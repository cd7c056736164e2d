//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	namespace = "store"
	podPort   = "8080"

	// gate is the readiness gate of every pod of the test: open while it listens.
	gate = "e2e.sluice.dev/listening"
	// addressRest is how long an address that a pod has given up is not used again,
	// as networks of containers see to it: what is still sent to the pod that is
	// gone must be refused, not answered by another.
	addressRest = 5 * time.Second
	// stopGrace is what a pod that ends gives to requests it has begun.
	stopGrace = 5 * time.Second
)

// simulator is the inside of the pods, and the readiness probe: KWOK plays the
// rest of the kubelet. For each pod it listens at the pod's address, and there
// only while the pod's process would: see simulated.live. Everything else at an
// address of the range is refused by the kernel.
type simulator struct {
	kube kubernetes.Interface
	ctx  context.Context

	mu     sync.Mutex
	pods   map[types.UID]*simulated
	left   map[string]time.Time // when an address was given up
	down   map[string]bool      // deployments whose processes have crashed
	faults map[string]fault     // by deployment
	seen   map[string]map[string]int
}

// fault is how the pods of a deployment answer instead of well.
type fault struct {
	status int           // 0: 200
	delay  time.Duration // before the answer
	hangUp bool          // no answer: the connection is reset
}

// simulated is one pod.
type simulated struct {
	sim                    *simulator
	name, component        string
	tag, digest, address   string
	startsIn, sleepsOnStop time.Duration
	ready                  bool // it listens and works; guarded by sim.mu

	stopped chan struct{} // closed by stop: it is told to end
	killed  chan struct{} // closed by kill: its object is gone
	stop    sync.Once
	kill    sync.Once
}

// deployment is "api-blue", or "web" without tags.
func (p *simulated) deployment() string { return deploymentOf(p.component, p.tag) }

func deploymentOf(component, tag string) string {
	if tag == "" {
		return component
	}
	return component + "-" + tag
}

func newSimulator(ctx context.Context, kube kubernetes.Interface) (*simulator, error) {
	s := &simulator{
		kube: kube, ctx: ctx, pods: map[types.UID]*simulated{}, left: map[string]time.Time{},
		down: map[string]bool{}, faults: map[string]fault{}, seen: map[string]map[string]int{},
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.update(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { s.update(o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			s.gone(o.(*corev1.Pod).UID)
		},
	})
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return s, nil
}

// update takes in what the API server says of a pod. What was not seen yet is
// started when it has an address, as a kubelet does; a deletion ends it after its
// preStop hook.
func (s *simulator) update(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[pod.UID]
	switch {
	case p != nil && pod.DeletionTimestamp != nil:
		p.stop.Do(func() { close(p.stopped) })
	case p == nil && pod.DeletionTimestamp == nil && pod.Status.PodIP != "" && healthy(pod):
		p = newSimulated(s, pod)
		s.pods[pod.UID] = p
		go p.live()
	}
}

// gone is the end of a pod whose object is deleted, if it has not come already.
func (s *simulator) gone(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pods[uid]; p != nil {
		p.kill.Do(func() { close(p.killed) })
		delete(s.pods, uid)
	}
}

// healthy reports whether KWOK lets the containers run.
func healthy(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.ContainersReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func newSimulated(s *simulator, pod *corev1.Pod) *simulated {
	container := pod.Spec.Containers[0]
	_, digest, _ := strings.Cut(container.Image, "@sha256:")
	p := &simulated{
		sim: s, name: pod.Name, address: pod.Status.PodIP, digest: digest[:min(12, len(digest))],
		component: pod.Labels["app.kubernetes.io/name"], tag: pod.Labels["sluice.dev/tag"],
		stopped: make(chan struct{}), killed: make(chan struct{}),
	}
	for _, v := range container.Env {
		if v.Name == "STARTS_IN" {
			p.startsIn, _ = time.ParseDuration(v.Value)
		}
	}
	if l := container.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
		p.sleepsOnStop = time.Duration(l.PreStop.Sleep.Seconds) * time.Second
	}
	return p
}

// live is a pod from the start of its container:
//
//  1. it takes its time until it listens, and is ready from then on;
//  2. told to stop, it sleeps in its preStop hook, still serving, and is not
//     ready for the API server from the first moment: the endpoints are told by
//     the deletion;
//  3. then comes SIGTERM. It closes its listener and idle connections at once,
//     ends the requests that it has begun, and is gone.
//
// A pod that crashes does not do the last: connections are reset.
func (p *simulated) live() {
	s := p.sim
	s.mu.Lock()
	rest := addressRest - time.Since(s.left[p.address])
	s.mu.Unlock()
	if !p.wait(max(p.startsIn, rest)) {
		return
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(p.address, podPort))
	if err != nil {
		panic(fmt.Sprintf("pod %s: %v", p.name, err)) // two pods at one address: nothing measured would mean anything
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	p.setReady(!s.crashed(p))
	if p.waitForEnd() {
		ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
		_ = server.Shutdown(ctx)
		cancel()
	}
	_ = server.Close()
	s.mu.Lock()
	p.ready = false
	s.left[p.address] = time.Now()
	s.mu.Unlock()
}

// wait is false if the pod ends meanwhile.
func (p *simulated) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-p.stopped:
	case <-p.killed:
	case <-p.sim.ctx.Done():
	}
	return false
}

// waitForEnd waits for the SIGTERM; false is a SIGKILL.
func (p *simulated) waitForEnd() bool {
	select {
	case <-p.stopped:
	case <-p.killed:
		return true // without grace: an API server takes the object away before anybody was told
	case <-p.sim.ctx.Done():
		return false
	}
	if p.sleepsOnStop > 0 {
		select {
		case <-time.After(p.sleepsOnStop):
		case <-p.killed:
		case <-p.sim.ctx.Done():
		}
	}
	return true
}

// setReady opens or shuts the readiness gate.
func (p *simulated) setReady(ready bool) {
	p.sim.mu.Lock()
	p.ready = ready
	p.sim.mu.Unlock()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q,"lastTransitionTime":%q}]}}`, gate, status, time.Now().UTC().Format(time.RFC3339))
	for range 5 {
		_, err := p.sim.kube.CoreV1().Pods(namespace).Patch(p.sim.ctx, p.name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
		if err == nil || !p.wait(100*time.Millisecond) {
			return
		}
	}
}

// ServeHTTP answers with who answers.
func (p *simulated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := p.sim
	s.mu.Lock()
	down, f := s.down[p.deployment()], s.faults[p.deployment()]
	if seen := s.seen[p.deployment()]; seen != nil {
		seen[r.Header.Get("Request-Id")]++
	}
	ready := 0
	for _, other := range s.pods {
		if other.ready && other.deployment() == p.deployment() {
			ready++
		}
	}
	s.mu.Unlock()
	if f.delay > 0 {
		select {
		case <-time.After(f.delay):
		case <-r.Context().Done():
		}
	}
	if down || f.hangUp {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("Component", p.component)
	h.Set("Tag", p.tag)
	h.Set("Digest", p.digest)
	h.Set("Pod", p.name)
	h.Set("Ready", strconv.Itoa(ready))
	if f.status != 0 {
		w.WriteHeader(f.status)
	}
	fmt.Fprintln(w, "answered by", p.name)
}

// fail makes the pods of a deployment answer badly; the zero fault ends it.
func (s *simulator) fail(deployment string, f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[deployment] = f
}

// crash makes the processes of a deployment fail every request and their probes.
// It returns what makes them well again.
func (s *simulator) crash(deployment string) (heal func()) {
	set := func(down bool) {
		s.mu.Lock()
		s.down[deployment] = down
		var pods []*simulated
		for _, p := range s.pods {
			if p.deployment() == deployment {
				pods = append(pods, p)
			}
		}
		s.mu.Unlock()
		for _, p := range pods {
			p.setReady(!down)
		}
	}
	set(true)
	return func() { set(false) }
}

// observe takes note of what a deployment is asked, until the returned function
// is called: how often, by id of the request.
func (s *simulator) observe(deployment string) (requests func() map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[deployment] = map[string]int{}
	return func() map[string]int {
		s.mu.Lock()
		defer s.mu.Unlock()
		seen := s.seen[deployment]
		delete(s.seen, deployment)
		return seen
	}
}

// asked is how often a deployment was asked that is observed.
func (s *simulator) asked(deployment string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen[deployment])
}

func (s *simulator) crashed(p *simulated) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down[p.deployment()]
}

// running is how many pods of a deployment there are.
func (s *simulator) running(deployment string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range s.pods {
		if p.deployment() == deployment {
			n++
		}
	}
	return n
}
