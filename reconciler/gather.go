package reconciler

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/cluster"
	"github.com/sluice-dev/sluice/reconciler/health"
	"github.com/sluice-dev/sluice/reconciler/inventory"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/traffic"
)

// readers is how many objects of one release are read at the same time.
const readers = 8

// gather makes all reads of a pass. An error leaves the pass without a plan:
// what could not be read is not known to be absent.
func (p *pass) gather(ctx context.Context) error {
	if err := p.readRelease(ctx); err != nil {
		return err
	}
	if p.in.Refusal != nil {
		return nil
	}
	if p.in.Gone {
		p.in.Paused = p.leavingPaused()
	} else if err := p.declare(); err != nil {
		return err
	}
	if p.in.Paused != "" {
		return p.foresee(ctx)
	}
	if !p.in.Gone {
		p.enter(StageRender)
		if err := p.render(ctx); err != nil {
			return err
		}
		if err := p.judgeBy(p.in.Release.Component); err != nil { // what is declared is known all the same
			return err
		}
		p.enter(StageGather)
	}
	if !p.in.Namespace.Exists {
		return nil
	}
	for _, read := range []func(context.Context) error{p.readObjects, p.readPods, p.readEndpoints, p.readSupport} {
		if err := read(ctx); err != nil {
			return err
		}
	}
	p.recognise()
	return nil
}

// readRelease finds out what the last pass has left.
func (p *pass) readRelease(ctx context.Context) error {
	in := p.in
	last, err := p.lastRelease(ctx)
	if err != nil {
		return err
	}
	in.Last, in.Inventory, p.was = last, inventory.Set{}, last
	var unreadable error
	if last != nil { // before any error is reported: nil is what is not known, and stays as it is
		in.Inventory, unreadable = inventory.FromRelease(last)
	}
	if err := p.readNamespace(ctx); err != nil {
		return err
	}
	if unreadable != nil {
		return &InventoryError{Release: last.Name, Namespace: last.Namespace, Err: unreadable}
	}
	p.strays = leaveStrays(in.Inventory, in.Namespace.Name, in.Release.Name)
	p.known = maps.Clone(in.Inventory)
	return nil
}

// declare reads what the repository says about the release, and about those that it
// comes after.
func (p *pass) declare() error {
	if err := p.declareRelease(); err != nil {
		return err
	}
	p.in.Dependencies, p.in.Circle = p.engine.dependencies(p.env, p.want.repo, p.in.Release)
	return nil
}

func (p *pass) declareRelease() error {
	if p.want.err != nil {
		return &RenderError{Release: p.in.Release.Name, Err: p.want.err}
	}
	release, err := p.declaration()
	if err != nil {
		return &RenderError{Release: p.in.Release.Name, Err: err}
	}
	release.Environment.Namespace = p.in.Namespace.Name
	p.in.Release = release
	p.in.Paused = pausedBy(release.Environment, release.Component)
	return nil
}

// declaration is what was read of the release when the commit was taken in, or is read now.
func (p *pass) declaration() (envrepo.Release, error) {
	if p.want.declared != nil {
		return *p.want.declared, nil
	}
	return p.want.repo.PartialRelease(p.in.Release.Environment.Name, p.in.Release.Name)
}

// leavingPaused says what pauses a release that the repository no longer has. A
// commit that pauses counts as soon as it is known, one that ends the pause not
// before what it wants of the release is: it may bring the release back.
func (p *pass) leavingPaused() string {
	if p.want.repo != nil {
		declared, err := p.want.repo.Environment(p.env.name)
		if err != nil {
			declared = p.in.Release.Environment // it has left, too
		}
		if paused := leaving(p.want.repo, declared, p.in.Release.Name); paused != "" {
			return paused
		}
	}
	return pausedBy(p.in.Release.Environment, envrepo.Component{})
}

// leaving says what pauses a release that is not in repo any more. Its component
// may still be there.
func leaving(repo *envrepo.Repo, declared envrepo.Environment, name string) string {
	component := envrepo.Component{}
	file := path.Join("components", name, "component.yaml")
	// A component that is missing is told with all that there are: do not ask.
	if _, err := fs.Lstat(repo.FS(), file); err == nil && name != envrepo.EnvironmentRelease {
		if c, err := repo.Component(name); err == nil {
			component = c
		}
	}
	return pausedBy(declared, component)
}

func pausedBy(env envrepo.Environment, component envrepo.Component) string {
	switch {
	case env.Paused:
		return "paused by sluice.yaml"
	case component.Paused:
		return "paused by " + path.Join("components", component.Name, "component.yaml")
	}
	return ""
}

// render renders the release, unless this content has been rendered already.
func (p *pass) render(ctx context.Context) error {
	if p.engine.ahead.take(ctx, p.release, p.want.hash); p.reuse() {
		return nil
	}
	if err := p.renderNow(ctx); err != nil {
		return err
	}
	if p.release.priority() <= rankBulk {
		p.engine.ahead.row(p.env.name, p.engine.renderAhead)
	}
	return nil
}

// reuse takes what has been rendered of this content, if it is kept.
func (p *pass) reuse() bool {
	if p.in.Rendered = p.release.renderedAt(p.want.hash, p.in.Now); p.in.Rendered == nil {
		return false
	}
	p.values = p.in.Rendered.Values
	return true
}

func (p *pass) renderNow(ctx context.Context) error {
	env := p.in.Release.Environment.Name
	p.engine.renders.Add(1)
	result, err := render.BuildPartial(ctx, render.Request{FS: p.want.fsys, Release: p.in.Release, Decrypt: p.engine.cfg.Decrypt[env]})
	if err != nil {
		return &RenderError{Release: p.in.Release.Name, Err: err}
	}
	p.values = result.Values
	if err := configured(p.want.repo, result); err != nil {
		return &RenderError{Release: p.in.Release.Name, Err: err}
	}
	if err := p.claim(result); err != nil {
		return err
	}
	p.in.Rendered = result
	p.release.keepRendered(p.want.hash, result, p.in.Now)
	p.engine.rendered.add(p.release)
	return nil
}

// claim puts our labels on the rendered objects, and their namespace right: of
// kinds that Kustomize does not know it cannot tell whether they have one.
func (p *pass) claim(result *render.Result) error {
	groups := [][]*unstructured.Unstructured{result.Shared}
	for _, t := range result.Tags {
		groups = append(groups, t.Objects)
	}
	for _, objects := range groups {
		for _, o := range objects {
			namespaced, err := p.engine.cluster.Namespaced(o.GroupVersionKind())
			var unknown *cluster.UnknownKindError
			switch {
			case errors.As(err, &unknown):
				continue // the API server will refuse it, by name
			case err != nil:
				return err
			case !namespaced:
				o.SetNamespace("")
			case o.GetNamespace() == "":
				o.SetNamespace(p.in.Namespace.Name)
			}
		}
		if err := claim(objects, p.in.key()); err != nil {
			return &RenderError{Release: p.in.Release.Name, Err: err}
		}
	}
	return nil
}

// readObjects finds out about everything that is rendered, or may be written with
// the routes, or is in the inventory.
// Only what cannot be known otherwise is read.
func (p *pass) readObjects(ctx context.Context) error {
	kinds := map[inventory.ID]schema.GroupVersionKind{}
	for id := range p.in.Inventory {
		kinds[id] = p.in.Inventory.Kind(id)
	}
	for _, o := range slices.Concat(p.rendered(), p.in.companions()) {
		if id := inventory.IDOf(o); within(id, p.in.Namespace.Name, p.in.Release.Name) {
			kinds[id] = o.GroupVersionKind() // the others are refused unseen
		}
	}
	views := p.follow(ctx, kinds)
	p.in.Live = make(map[inventory.ID]*unstructured.Unstructured, len(kinds))
	for id, gvk := range kinds {
		live, sure := p.look(views[gvk.GroupKind()], id)
		if live != nil && sure {
			p.in.Live[id] = live
		}
		if sure {
			delete(kinds, id)
		}
	}
	err := p.readEach(ctx, kinds)
	p.looked = err == nil
	return err
}

// readEach reads objects, side by side.
func (p *pass) readEach(ctx context.Context, kinds map[inventory.ID]schema.GroupVersionKind) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for id, gvk := range kinds {
		g.Go(func() error {
			live, err := p.env.hands.Get(ctx, gvk, id.Namespace, id.Name)
			if err != nil || live == nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			p.in.Live[id] = live
			if mark, ok := p.in.Marks[id].renewed(live); ok {
				p.in.Marks[id] = mark
				p.release.remember(id, mark)
			}
			return nil
		})
	}
	return g.Wait()
}

// rendered are all rendered objects.
func (p *pass) rendered() []*unstructured.Unstructured {
	if p.in.Rendered == nil {
		return nil
	}
	all := slices.Clone(p.in.Rendered.Shared)
	for _, t := range p.in.Rendered.Tags {
		all = append(all, t.Objects...)
	}
	return all
}

// readPods looks for the pod to blame, where a workload has not become Current for
// a while.
func (p *pass) readPods(ctx context.Context) error {
	p.in.Problems = map[inventory.ID]string{}
	for _, o := range p.rendered() {
		live := p.in.live(o)
		if live == nil || stageOf(o) != stageWorkloads || isCronJob(o) {
			continue
		}
		if state := p.in.judge(o); state.Status == health.Current || state.Status == health.Progressing && !p.waited() {
			continue
		}
		pods, err := p.env.hands.Pods(ctx, live)
		if err != nil {
			return err
		}
		p.in.Problems[inventory.IDOf(o)] = health.PodProblem(pods)
	}
	return nil
}

// podPatience is how long pods may take before one of them is to blame.
const podPatience = time.Second

// waited reports whether health has been waited for, not just since a moment ago.
// The time in the status is a whole second, up to one earlier than it was.
func (p *pass) waited() bool {
	last := p.in.status().Attempt
	return last != nil && last.Hash == p.in.Hash && p.in.Now.Sub(last.Since.Time) >= podPatience+time.Second
}

// readEndpoints counts the endpoints of the tags that have, or are to have, requests:
// of those that lose some, which the commit may leave because nobody answers, and of
// the others once their workloads are well.
func (p *pass) readEndpoints(ctx context.Context) error {
	p.in.Endpoints = map[string]int{}
	counted := map[string]endpoints{}
	var view *cluster.View
	for _, tag := range p.counts() {
		service := p.in.Release.Component.Name + "-" + tag
		if p.in.Live[inventory.ID{Namespace: p.in.Namespace.Name, Name: service, Kind: "Service"}] == nil {
			continue
		}
		if view == nil {
			view = p.engine.follow(p.env, sliceKind)
			wait(ctx, view)
		}
		e, err := p.countEndpoints(ctx, view, service)
		if err != nil {
			return err
		}
		counted[service], p.in.Endpoints[service] = e, e.ready
	}
	p.release.counted(counted, p.in.Release.Tagged() || len(counted) > 0)
	return nil
}

// counts are the tags whose endpoints matter. What their weights are is decided from
// what Decide decides it from.
func (p *pass) counts() (tags []string) {
	if p.in.Rendered == nil {
		return nil
	}
	routes, _ := traffic.Routes(p.in.Rendered.Shared, p.in.Release.Component.Name)
	c := carried(p.in, routes)
	var want envrepo.Traffic
	if p.in.Release.Tagged() {
		want = *p.in.Release.Traffic
	}
	for _, s := range c.had.Weights {
		if weight, _ := want.Weight(s.Tag); weight < s.Percent {
			tags = append(tags, s.Tag)
		}
	}
	for _, t := range p.in.Release.Tags {
		weight, listed := want.Weight(t.Name)
		if slices.Contains(tags, t.Name) || !listed && share(c.had.Weights, t.Name) == 0 {
			continue
		}
		if p.well(t.Name, weight > share(c.least, t.Name)) {
			tags = append(tags, t.Name)
		}
	}
	return tags
}

// well reports whether all workloads of a tag are Current, or may be good enough for a
// share that is to rise: they lack nothing but pods.
func (p *pass) well(tag string, rising bool) bool {
	for _, t := range p.in.Rendered.Tags {
		if t.Name != tag {
			continue
		}
		u := &unit{tag: tag, objects: t.Objects}
		u.findScalers()
		return !slices.ContainsFunc(t.Objects, func(o *unstructured.Unstructured) bool {
			return isWorkload(o) && p.in.judge(o).Status != health.Current && !(rising && u.short(p.in, o))
		})
	}
	return false
}

// countEndpoints counts the ready endpoints of a Service, unless its slices are
// those that were counted before.
func (p *pass) countEndpoints(ctx context.Context, view *cluster.View, service string) (endpoints, error) {
	now := endpoints{}
	if view != nil {
		if seen, ok := view.Labelled(service); ok {
			now.slices = slicesOf(seen)
		}
	}
	if before, ok := p.release.countedBefore(service); ok && now.slices != "" && now.slices == before.slices {
		return before, nil
	}
	list, err := p.env.hands.EndpointSlices(ctx, p.in.Namespace.Name, service)
	now.ready = health.ReadyEndpoints(list)
	return now, err
}

const gatewayGroup = "gateway.networking.k8s.io"

// readSupport asks what the gateways of the routes can do, where a mirror makes
// that matter.
func (p *pass) readSupport(ctx context.Context) error {
	if !p.in.Release.Tagged() || !slices.ContainsFunc(p.in.Release.Traffic.Mirrors, func(w envrepo.Weight) bool { return w.Percent > 0 }) {
		return nil
	}
	var all []traffic.Support
	for _, o := range p.in.Rendered.Shared {
		for _, parent := range traffic.Gateways(o) {
			s, err := p.gatewaySupport(ctx, parent)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		all = append(all, traffic.Support{Missing: "no route of the release names a Gateway"})
	}
	p.in.Support = traffic.Combine(all...)
	return nil
}

// gatewaySupport is what one parent of a route declares. A Gateway or a GatewayClass
// that is not there, or may not be read, is told by name: the mirror is then held
// back with that reason, and nothing else is.
func (p *pass) gatewaySupport(ctx context.Context, parent traffic.ParentRef) (traffic.Support, error) {
	if parent.Group != gatewayGroup || parent.Kind != "Gateway" {
		return traffic.Support{Missing: parent.Kind + " " + parent.Namespace + "/" + parent.Name + " is no Gateway"}, nil
	}
	gateway, missing, err := p.readGateway(ctx, "Gateway", parent.Namespace, parent.Name)
	if gateway == nil {
		return traffic.Support{Missing: missing}, err
	}
	name, _, _ := unstructured.NestedString(gateway.Object, "spec", "gatewayClassName")
	if name == "" {
		return traffic.Support{Missing: "Gateway " + parent.Namespace + "/" + parent.Name + " names no GatewayClass"}, nil
	}
	class, missing, err := p.readGateway(ctx, "GatewayClass", "", name)
	if class == nil {
		return traffic.Support{Class: name, Missing: missing}, err
	}
	features, _, _ := unstructured.NestedSlice(class.Object, "status", "supportedFeatures")
	s := traffic.Support{Known: true, Class: name}
	for _, f := range features {
		feature, _ := f.(map[string]any)
		switch feature["name"] {
		case "HTTPRouteRequestPercentageMirror":
			s.PercentageMirror = true
		case "HTTPRouteRequestMultipleMirrors":
			s.MultipleMirrors = true
		}
	}
	return s, nil
}

// readGateway reads an object of the Gateway API, or says why it cannot.
func (p *pass) readGateway(ctx context.Context, kind, namespace, name string) (object *unstructured.Unstructured, missing string, err error) {
	what := kind + " " + name
	if namespace != "" {
		what = kind + " " + namespace + "/" + name
	}
	object, err = p.engine.cluster.Get(ctx, schema.GroupVersionKind{Group: gatewayGroup, Version: "v1", Kind: kind}, namespace, name)
	var access *cluster.AccessError
	switch {
	case errors.As(err, &access):
		return nil, what + " may not be read", nil
	case err == nil && object == nil:
		return nil, what + " does not exist", nil
	}
	return object, "", err
}
