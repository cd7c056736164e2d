package promotion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/contract"
	"github.com/sluice-dev/sluice/render/diff"
	"github.com/sluice-dev/sluice/render/traffic"
)

// gathering says what to gather an Input about.
type gathering struct {
	before      *gitrepo.Snapshot // the project on the target branch
	after       *envrepo.Tree     // the project as merging makes it
	environment string
	components  []string
	head        string // head branch
	target      string // branch that it merges into
}

// judgement is an Input and what it rests on.
type judgement struct {
	input  Input
	target string   // the commit of the target branch that everything was read from
	base   string   // where the head leaves the target branch
	reads  []string // files and folders of the project that decide the result, sorted

	overtaken string // why nothing of the head is wanted any more; "" when something is
}

// gather reads everything that the body and the gates are made of. What is
// wrong with one component becomes part of the Input, not an error.
func (s *Service) gather(ctx context.Context, g gathering) (judgement, error) {
	j := judgement{input: Input{
		Now: s.now(), Kind: KindOf(g.head), Environment: g.environment, Branch: s.branch, Target: g.target, Head: g.head,
	}, reads: []string{sluiceFile}}
	before, err := envrepo.Open(g.before)
	if err != nil {
		return j, err
	}
	environment, err := before.Environment(g.environment)
	var unknown *envrepo.UnknownEnvironmentError
	if errors.As(err, &unknown) {
		return j, nil // removed while the pull request was open: the gates say so
	}
	if err != nil {
		return j, err
	}
	j.input.Declared, j.input.Policy, j.input.Drain = true, environment.Promotion, environment.Traffic.Drain
	after, err := envrepo.Open(g.after)
	if err != nil {
		return j, nil // a head that breaks sluice.yaml is out of scope, and the gates say so
	}
	for _, name := range g.components {
		c := component{Service: s, before: before, after: after, revision: g.before.Revision(), environment: environment, name: name}
		gather := c.gather
		if j.input.Kind == KindTraffic {
			gather = c.gatherTraffic
		}
		inputs, err := gather(ctx)
		if err != nil {
			return j, err
		}
		j.input.Components = append(j.input.Components, inputs...)
		j.reads = append(j.reads, c.reads...)
	}
	slices.Sort(j.reads)
	j.reads = slices.Compact(j.reads)
	return j, nil
}

// component gathers what is known of one component.
type component struct {
	*Service
	before, after *envrepo.Repo
	revision      string // of before
	environment   envrepo.Environment
	name          string
	reads         []string

	old, new       envrepo.Release
	oldRender      *render.Result
	newRender      *render.Result
	oldErr, newErr error
	objects        []diff.Change
	builds         []envrepo.Build
	health         HealthReport
	source         string
}

// gather returns one input for each digest that changes: one, unless somebody
// edited the head.
func (c *component) gather(ctx context.Context) ([]ComponentInput, error) {
	c.old, c.oldErr = c.before.Release(c.environment.Name, c.name)
	c.new, c.newErr = c.after.Release(c.environment.Name, c.name)
	c.reads = append(c.folders(), path.Join("environments", c.environment.Promotion.From, c.name))
	if c.newErr != nil {
		return []ComponentInput{{Name: c.name, RenderError: c.newErr.Error()}}, ctx.Err()
	}
	changes := digestChanges(c.old, c.new)
	if len(changes) == 0 {
		return nil, ctx.Err()
	}
	if err := c.render(ctx, render.Build); err != nil {
		return nil, err
	}
	c.readSource(ctx)
	// A broken record of another build is no reason to know nothing of this one.
	c.builds, _ = c.before.Builds(c.name)
	c.builds = plausible(c.builds, c.now())
	inputs := make([]ComponentInput, len(changes))
	for i, change := range changes {
		inputs[i] = c.input(change)
		if err := c.readPast(ctx, &inputs[i]); err != nil {
			return nil, err
		}
		for _, digest := range []string{change.old, change.new} {
			c.reads = append(c.reads, path.Join("builds", c.name, short(digest)+".yaml"))
		}
	}
	return inputs, ctx.Err()
}

// folders are those of the component and of its release.
func (c *component) folders() []string {
	return []string{path.Join("components", c.name), path.Join("environments", c.environment.Name, c.name)}
}

// render renders the release before and after, keyless, and compares.
func (c *component) render(ctx context.Context, renderer func(context.Context, render.Request) (*render.Result, error)) error {
	build := func(repo *envrepo.Repo, rel envrepo.Release, err error) (*render.Result, error) {
		if err != nil {
			return nil, err
		}
		return renderer(ctx, render.Request{FS: repo.FS(), Release: rel, Decrypt: c.decrypt})
	}
	c.oldRender, c.oldErr = build(c.before, c.old, c.oldErr)
	c.newRender, c.newErr = build(c.after, c.new, c.newErr)
	for _, repo := range []*envrepo.Repo{c.before, c.after} {
		// What is found in spite of an error belongs to it all the same.
		closure, _ := render.InputClosure(repo.FS(), c.new)
		c.reads = append(c.reads, closure.Paths...)
	}
	var before, after []*unstructured.Unstructured
	if c.oldErr == nil {
		before, c.oldErr = applied(c.oldRender)
	}
	if c.newErr == nil {
		after, c.newErr = applied(c.newRender)
	}
	if ctx.Err() == nil && c.newErr == nil {
		c.objects = diff.Objects(before, after, diff.Mask{Values: slices.Concat(values(c.oldRender), values(c.newRender))})
	}
	return ctx.Err()
}

// readSource reads what the source environment declares and how it is doing.
func (c *component) readSource(ctx context.Context) {
	from := c.environment.Promotion.From
	if from == "" {
		c.health = HealthReport{Message: "no environment comes before " + c.environment.Name}
		return
	}
	if rel, err := c.before.Release(from, c.name); err == nil {
		c.source, _ = envrepo.SourceDigest(rel) // none: the gate order says so
	}
	c.health = c.healthIn(ctx, from)
}

// healthIn asks how the component is doing in an environment; that asking fails is
// not to know.
func (c *component) healthIn(ctx context.Context, environment string) HealthReport {
	report, err := c.Service.health.Release(ctx, environment, c.name)
	if err != nil {
		return HealthReport{Message: err.Error()}
	}
	return report
}

// readPast adds what only history tells: the pages of the records, and whether the
// source environment had a digest that it does not declare any more.
func (c *component) readPast(ctx context.Context, in *ComponentInput) (err error) {
	if in.OldPage, err = c.recordURL(ctx, in.OldBuild); err != nil {
		return err
	}
	if in.NewPage, err = c.recordURL(ctx, in.NewBuild); err != nil {
		return err
	}
	if in.Source == in.New && !in.Back {
		return nil
	}
	if in.Returns, err = c.hasHad(ctx, c.revision, c.environment.Name, c.name, in.New); err != nil {
		return err
	}
	if in.Returns {
		in.Here = c.healthIn(ctx, c.environment.Name)
		return nil
	}
	from := c.environment.Promotion.From
	if from == "" || in.Source == "" || in.Source == in.New {
		return nil
	}
	history, err := c.declared(ctx, c.revision, from, c.name)
	in.MovedOn = err == nil && movedOn(history, plausible(c.builds, c.now(), history...), in.New)
	return err
}

// input puts together what is known of one changed digest.
func (c *component) input(change digestChange) ComponentInput {
	in := ComponentInput{
		Name: c.name, Tag: change.tag, Old: change.old, New: change.new,
		OldBuild: c.build(change.old), NewBuild: c.build(change.new),
		Source: c.source, OldTraffic: c.old.Traffic, NewTraffic: c.new.Traffic,
		Objects: c.objects, Health: c.health,
	}
	if change.old != "" && c.oldErr != nil {
		in.OldError = c.oldErr.Error()
	}
	if c.newErr != nil {
		in.RenderError = c.newErr.Error()
		return in
	}
	in.Keyless = c.newRender.Keyless
	in.Between, in.Back = between(c.builds, change.old, change.new)
	in.Contracts = c.contracts(change)
	return in
}

// build returns the record of a digest on the target branch, nil when there is
// none.
func (c *component) build(digest string) *envrepo.Build {
	if digest == "" {
		return nil
	}
	b, err := c.before.Build(c.name, digest)
	if err != nil {
		return nil
	}
	return &b
}

// contracts holds every contract that has to be true after merging against the
// merged result: the new digest's, those of the digests that keep running, and
// that of the digest which a rollback would bring back.
func (c *component) contracts(change digestChange) []ContractInput {
	list := []ContractInput{c.contract("new digest", change.tag, change.new)}
	if c.new.Traffic != nil {
		for _, tag := range c.new.Tags {
			_, listed := c.new.Traffic.Weight(tag.Name)
			if listed && tag.Name != change.tag && tag.Digest != "" {
				list = append(list, c.contract("running", tag.Name, tag.Digest))
			}
		}
	}
	if change.old != "" {
		list = append(list, c.contract("rollback target", change.tag, change.old))
	}
	return list
}

func (c *component) contract(role, tag, digest string) ContractInput {
	result := ContractInput{Role: role, Tag: tag, Digest: digest, Required: slices.Clone(c.new.Component.Config.Required)}
	var recorded *envrepo.Contract
	if b := c.build(digest); b != nil && b.Config != nil {
		recorded = b.Config
		result.Required = append(result.Required, recorded.Required...)
	}
	slices.Sort(result.Required)
	result.Required = slices.Compact(result.Required)
	result.Known = recorded != nil || len(result.Required) > 0
	for _, missing := range contract.Check(objectsOf(c.newRender, tag), c.new.Component, recorded, c.newRender.Opaque...) {
		if missing.Unknown {
			result.Unsure = append(result.Unsure, missing.String())
		} else {
			result.Missing = append(result.Missing, missing.String())
			result.Keys = append(result.Keys, missing.Key)
			if missing.Add {
				result.Remedy = contract.Remedy(c.after.FS(), c.new.Dir, result.Keys...)
			}
		}
	}
	schema, err := contract.LoadSchema(c.after.FS(), c.new.Component)
	if err != nil {
		result.Invalid = append(result.Invalid, err.Error())
	}
	for _, invalid := range schema.Check(objectsOf(c.newRender, tag), c.new.Component.Image, c.newRender.Values) {
		result.Invalid = append(result.Invalid, invalid.String())
	}
	return result
}

// objectsOf returns what a tag's containers may see: its own objects and those
// of the whole release.
func objectsOf(r *render.Result, tag string) []*unstructured.Unstructured {
	objects := slices.Clone(r.Shared)
	for _, t := range r.Tags {
		if t.Name == tag {
			objects = append(objects, t.Objects...)
		}
	}
	return objects
}

// applied returns all objects of a release as they will be applied, with its
// traffic in the routes. What the gateway supports is for the cluster to say.
func applied(r *render.Result) ([]*unstructured.Unstructured, error) {
	if !r.Release.Tagged() {
		return r.Shared, nil
	}
	tags := make([]string, len(r.Tags))
	var ofTags []*unstructured.Unstructured
	for i, t := range r.Tags {
		tags[i] = t.Name
		ofTags = append(ofTags, t.Objects...)
	}
	everything := traffic.Support{Known: true, PercentageMirror: true, MultipleMirrors: true}
	objects, err := traffic.Transform(r.Shared, ofTags, r.Release.Name, *r.Release.Traffic, tags, everything)
	if err != nil {
		return nil, fmt.Errorf("routing %s: %w", r.Release.Dir, err)
	}
	return append(objects, ofTags...), nil
}

func values(r *render.Result) []string {
	if r == nil {
		return nil
	}
	return r.Values
}

// digestChange is a digest that differs between two states of a release, or a
// tag that is newly listed and so starts to run the one it has.
type digestChange struct{ tag, old, new string }

// digestChanges compares the digests of a release, tag by tag.
func digestChanges(before, after envrepo.Release) []digestChange {
	if !after.Tagged() {
		if before.Digest == after.Digest {
			return nil
		}
		return []digestChange{{old: before.Digest, new: after.Digest}}
	}
	old := map[string]string{}
	for _, tag := range before.Tags {
		old[tag.Name] = tag.Digest
	}
	var changes []digestChange
	for _, tag := range after.Tags {
		_, now := after.Traffic.Weight(tag.Name)
		if old[tag.Name] != tag.Digest || now && !listed(before, tag.Name) {
			changes = append(changes, digestChange{tag: tag.Name, old: old[tag.Name], new: tag.Digest})
		}
	}
	return changes
}

func listed(rel envrepo.Release, tag string) bool {
	if rel.Traffic == nil {
		return false
	}
	_, ok := rel.Traffic.Weight(tag)
	return ok
}

// between returns the builds after old up to new, newest first; back tells
// that new is the older one, and then they are those it goes back over.
func between(builds []envrepo.Build, old, new string) (list []envrepo.Build, back bool) {
	at := func(digest string) int {
		return slices.IndexFunc(builds, func(b envrepo.Build) bool { return b.Digest == digest })
	}
	from, to := at(old), at(new)
	switch {
	case to < 0:
		return nil, false
	case from < 0:
		return builds[to : to+1], false
	case to <= from:
		return builds[to:from], false
	}
	return builds[from:to], true
}

// moved lists which of some files and folders of the project differ between
// two revisions.
func (s *Service) moved(from, to string, names []string) ([]string, error) {
	if from == to {
		return nil, nil
	}
	a, err := s.snapshot(from)
	if err != nil {
		return nil, err
	}
	b, err := s.snapshot(to)
	if err != nil {
		return nil, err
	}
	var moved []string
	for _, name := range names {
		x, _ := a.Hash(name)
		y, _ := b.Hash(name)
		if x != y {
			moved = append(moved, name)
		}
	}
	return moved, nil
}

// regular reads a file that a head changed; whatever is no regular file is
// refused.
func regular(fsys fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return fs.ReadFile(fsys, name)
}

// componentOf returns the component whose release folder of an environment
// holds a file of the project.
func componentOf(environment, name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, path.Join("environments", environment)+"/")
	if !ok {
		return "", false
	}
	component, _, ok := strings.Cut(rest, "/")
	return component, ok && nameFormat.MatchString(component)
}
