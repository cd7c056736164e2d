package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/contract"
	"github.com/sluice-dev/sluice/render/isolation"
	"github.com/sluice-dev/sluice/render/traffic"
	"github.com/sluice-dev/sluice/secrets"
)

// finding is one thing that check found.
type finding struct {
	Severity string `json:"severity"`          // error or warning
	Release  string `json:"release,omitempty"` // several are joined with commas
	File     string `json:"file,omitempty"`
	Object   string `json:"object,omitempty"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

// checked is the answer of check.
type checked struct {
	Releases int       `json:"releases"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Findings []finding `json:"findings"`
	Notes    []string  `json:"notes,omitempty"` // what could not be judged
	since    `json:",inline"`

	told         map[finding]int // index in Findings, by the finding without its release
	lacking      map[lack]int    // likewise: see addLinted
	kinds        componentKinds
	rules        *secrets.Rules // of .sops.yaml; nil without one
	builds       map[string][]envrepo.Build
	lookbacks    []*lookback
	environments []*isolation.Environment
}

// reached is a release that a change of shared files reaches without promotion.
type reached struct {
	Environment string   `json:"environment"`
	Component   string   `json:"component"`
	Files       []string `json:"files"`

	Changes []objectDiff `json:"changes"`           // of what is rendered, secrets masked
	Problem string       `json:"problem,omitempty"` // why they are not known
}

func newCheckCommand(a *app) *cobra.Command {
	var environments []string
	var ref, base string
	var publish bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Find what is wrong with the repository; needs no cluster or key",
		Long: `Reads every file strictly, renders every release without keys and judges the
result: digests that pin nothing, configuration keys that are missing, objects
that must not stand in a tag, routes that would ignore the weights. It warns of
workloads behind a Service without a readiness probe or resource requests, or
that an update may leave without a pod, and of pods that their namespace does
not admit by its Pod Security labels.

It evaluates the NetworkPolicies of all environments (or those of --environment)
and names each one by which pods of one can reach pods of another, and each one
that would let them if policies at the other end did not hold them back.

The configuration that a build requires, by its record, has to be there for the
digests that are pinned and for those that a rollback brings back, which Git's
history tells: that of the commit that is read, of the working tree's HEAD, or
with --base that of the base. Without it, a note says what was not judged.

With --base, it also lists what a change since that commit does without a
promotion: the environments that changed files below components/ reach, and how
each object there changes, rendered without keys and with secrets masked (long
differences are cut; -o yaml and -o json have them whole), the environments
whose gates are changed in sluice.yaml, and digests changed by hand where a
promotion is due. --publish shows that as the statuses sluice/… of the
commit that --ref names, so that a branch can require them of every pull
request.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v, err := a.openView(c.Context(), ref, fromWorktree)
			if err != nil {
				return err
			}
			defer v.Close()
			result, err := a.runCheck(c.Context(), v, environments, base)
			if err != nil {
				return err
			}
			if publish {
				if base == "" || len(environments) > 0 {
					return withHint(usagef("--publish judges a whole change"), "give --base, and no --environment")
				}
				result.Gates = changeGates(result)
				if err := a.publishChange(c.Context(), v, result.Gates); err != nil {
					return err
				}
			}
			return a.printChecked(v, result)
		},
	}
	c.Flags().StringSliceVar(&environments, "environment", nil, "only these environments (default: all)")
	c.Flags().StringVar(&base, "base", "", "list what changed shared files reach since this `commit, branch or tag`")
	c.Flags().BoolVar(&publish, "publish", false, "with --base and --ref: show the outcome as statuses of that commit")
	refFlag(c, &ref, fromWorktree)
	return c
}

func (a *app) runCheck(ctx context.Context, v *view, environments []string, base string) (checked, error) {
	if len(environments) == 0 {
		environments = environmentNames(v.Repo.Project())
	}
	result := checked{Findings: []finding{}, kinds: componentKinds{}}
	declared, builds := declarations(v.Repo, a.Now())
	result.builds = builds
	for _, f := range slices.Concat(declared, expressions(v.Repo), dependencies(v.Repo), strangers(v), acknowledgements(v.Repo)) {
		result.add(f)
	}
	rules, err := v.Rules()
	if err == nil {
		var found []finding
		found, err = unencrypted(v.FS, rules)
		for _, f := range found {
			result.add(f)
		}
	}
	if err != nil {
		result.add(errorFinding("", err))
	}
	result.rules = rules
	tagged := taggedReleases(v.Repo)
	for _, name := range environments {
		env, err := v.Repo.Environment(name)
		if err != nil {
			return checked{}, err
		}
		names, err := v.Repo.ReleaseNames(name)
		if err != nil {
			result.add(errorFinding(name, err))
			result.kinds.unknown(missingKinds)
			continue
		}
		for _, f := range strayTraffic(v.Repo, name) {
			result.add(f)
		}
		checkEnvironment(ctx, v, env, names, tagged, &result)
		if err := ctx.Err(); err != nil {
			return checked{}, err
		}
	}
	result.judgeIsolation()
	if len(environments) == len(v.Repo.Project().Environments) {
		for _, f := range slices.Concat(unjudged(v.Repo, result.kinds), protections(v.Repo, result.kinds)) {
			result.add(f)
		}
	}
	if err := a.compare(ctx, v, base, &result); err != nil {
		return checked{}, err
	}
	return result, nil
}

// compare adds what history and the state before tell.
func (a *app) compare(ctx context.Context, v *view, base string, result *checked) error {
	if base == "" {
		return judgeRollbacks(ctx, v, v, result)
	}
	before, err := a.openBase(ctx, v, base)
	if err != nil {
		return err
	}
	defer before.Close()
	if err := judgeRollbacks(ctx, before, v, result); err != nil {
		return err
	}
	result.since, err = changedSince(ctx, before, v)
	return err
}

// declarations decodes what no release leads to: every component and build. The builds
// come back by their components.
func declarations(repo *envrepo.Repo, now time.Time) (found []finding, all map[string][]envrepo.Build) {
	components, err := repo.Components()
	if err != nil {
		return []finding{errorFinding("", err)}, nil
	}
	all = map[string][]envrepo.Build{}
	for _, name := range components {
		if _, err := repo.Component(name); err != nil {
			found = append(found, errorFinding(name, err))
		}
		builds, err := repo.Builds(name)
		if err != nil {
			found = append(found, errorFinding(name, err))
		}
		all[name] = builds
		for _, b := range builds {
			if b.Ahead(now) {
				found = append(found, finding{Severity: "warning", Release: name, File: "builds/" + name + "/" + b.ID() + ".yaml",
					Message: "createdAt is in the future, so nobody can tell which builds are newer", Hint: "correct it to the time at which it was recorded: `git log` of the file has it"})
			}
		}
	}
	return found, all
}

// strangers finds folders below environments/ that sluice.yaml does not list:
// nothing in them is ever applied.
func strangers(v *view) []finding {
	entries, err := fs.ReadDir(v.FS, "environments")
	if err != nil {
		return nil // a project without environments' folders has nothing in them
	}
	var found []finding
	for _, e := range entries {
		if !hasEnvironment(v.Repo.Project(), e.Name()) {
			found = append(found, finding{Severity: "warning", File: "environments/" + e.Name(),
				Message: "sluice.yaml lists no such environment, so nothing in it is applied", Hint: "add it to sluice.yaml, or remove the folder"})
		}
	}
	return found
}

// strayTraffic finds weights that are of no release, so that nothing follows them.
func strayTraffic(repo *envrepo.Repo, env string) (found []finding) {
	files, err := repo.StrayTraffic(env)
	if err != nil {
		return []finding{errorFinding(env, err)}
	}
	for _, file := range files {
		found = append(found, finding{Severity: "error", File: file, Message: "holds weights that no release follows",
			Hint: "move it to environments/" + env + "/COMPONENT/traffic.yaml, or remove it"})
	}
	return found
}

// taggedReleases are those of the whole project: a route in one environment may name
// a Service of another. What cannot be read is reported where it is checked.
func taggedReleases(repo *envrepo.Repo) []traffic.Tagged {
	var tagged []traffic.Tagged
	for _, env := range environmentNames(repo.Project()) {
		names, err := repo.ReleaseNames(env)
		if err != nil {
			continue
		}
		for _, name := range names {
			if rel, err := repo.PartialRelease(env, name); err == nil && rel.Tagged() {
				tagged = append(tagged, asTagged(rel))
			}
		}
	}
	return tagged
}

func asTagged(rel envrepo.Release) traffic.Tagged {
	t := traffic.Tagged{Environment: rel.Environment.Name, Namespace: rel.Environment.Namespace, Component: rel.Name}
	for _, tag := range rel.Tags {
		t.Tags = append(t.Tags, tag.Name)
	}
	return t
}

// checkEnvironment renders and judges the releases of one environment, and
// whether their routes refer to tagged ones of the project.
func checkEnvironment(ctx context.Context, v *view, env envrepo.Environment, names []string, tagged []traffic.Tagged, result *checked) {
	rendered := map[string]*render.Result{}
	for _, name := range names {
		result.Releases++
		id := env.Name + "/" + name
		rel, err := v.Repo.PartialRelease(env.Name, name)
		if err != nil {
			result.add(errorFinding(id, err))
			result.kinds.unknown(name)
			continue
		}
		r, found, err := inspect(ctx, v, rel)
		for _, f := range found {
			result.addLinted(f.Workload, name, finding{f.Severity, id, f.File, f.Object, f.Message, f.Hint})
		}
		for _, err := range brokenTags(r) {
			result.add(errorFinding(id, err))
		}
		if err != nil {
			result.add(errorFinding(id, err))
			result.kinds.unknown(name)
			continue
		}
		for _, f := range plainSecrets(id, r.Plain, result.rules) {
			result.add(f)
		}
		for _, file := range r.Opaque {
			result.note(file + " is encrypted as a whole: the objects are judged without what it patches")
		}
		rendered[name] = r
		result.kinds.add(r)
		for _, f := range slices.Concat(missingConfig(v.Repo, r), invalidConfig(v.Repo, r), unfollowed(r, tagged)) {
			result.add(f)
		}
		result.lookbacks = append(result.lookbacks, lookbacks(r, result.builds[name])...)
	}
	if e := isolated(env, names, rendered); e != nil {
		result.environments = append(result.environments, e)
	}
}

// inspect renders a release without keys. What lint finds comes back as
// findings, the errors too for which render.Build would refuse the release: the
// rest of what check looks at is then still told.
func inspect(ctx context.Context, v *view, rel envrepo.Release) (*render.Result, []render.Finding, error) {
	r, found, err := render.Inspect(ctx, render.Request{FS: v.FS, Release: rel, Decrypt: keyless})
	if err != nil {
		return nil, nil, err
	}
	_, err = displayed(r)
	return r, found, err
}

// brokenTags are the errors of the tags that do not render.
func brokenTags(r *render.Result) (errs []error) {
	if r == nil {
		return nil
	}
	for _, t := range r.Tags {
		if t.Broken != nil {
			errs = append(errs, t.Broken)
		}
	}
	return errs
}

// unfollowed finds what a release has that leads requests past the weights of a
// tagged one. A route of another release is refused; what a release's own Ingress does
// is told, as it is how one moves from it to a route. A tag may name its own Service in
// kinds that are not known to be routes; that is told, and for its author to judge.
func unfollowed(r *render.Result, tagged []traffic.Tagged) []finding {
	own := asTagged(r.Release)
	id := own.Environment + "/" + own.Component
	var found []finding
	for _, f := range traffic.Unweighted(r.Shared, own, tagged) {
		severity := "warning"
		if f.Outside {
			severity = "error"
		}
		found = append(found, finding{severity, id, r.Release.Dir, f.Object, f.Message, f.Hint})
	}
	tell := func(dir string, objects []*unstructured.Unstructured, inTag bool) {
		for _, f := range traffic.Foreign(objects, own, tagged) {
			severity := "error"
			switch ours := inTag && f.Component == own.Component; {
			case ours && f.Guess:
				continue // as it would of any Service beside it
			case ours, f.Guess:
				severity = "warning"
			}
			found = append(found, finding{severity, id, dir, f.Object, f.Message, f.Hint})
		}
	}
	tell(r.Release.Dir, r.Shared, false)
	for i, t := range r.Tags {
		tell(r.Release.Tags[i].Dir, t.Objects, true)
	}
	return found
}

// missingConfig holds what each deployment of a release sees against the
// contract of its component and of the build it pins.
func missingConfig(repo *envrepo.Repo, r *render.Result) (found []finding) {
	rel := r.Release
	if rel.Name == envrepo.EnvironmentRelease {
		return nil
	}
	for _, d := range deployments(r) {
		for _, m := range contract.Check(d.objects, rel.Component, buildContract(repo, rel.Name, d.digest), r.Opaque...) {
			found = append(found, missingKey(repo, rel, d.tag, m, ""))
		}
	}
	return found
}

// missingKey is a key that a deployment lacks, as a finding; whose says which build
// requires it where that is not the pinned one.
func missingKey(repo *envrepo.Repo, rel envrepo.Release, tag string, m contract.Missing, whose string) finding {
	where := rel.Environment.Name
	if tag != "" {
		where += " under tag " + tag
	}
	severity := "error"
	if m.Unknown { // something outside the repository may provide it
		severity = "warning"
	}
	if m.Add {
		m.Hint = contract.Remedy(repo.FS(), rel.Dir, m.Key)
	}
	return finding{severity, rel.Environment.Name + "/" + rel.Name, rel.Dir, m.Workload,
		fmt.Sprintf("required configuration key %s is missing in %s%s: %s", m.Key, where, whose, m.Reason), m.Hint}
}

// invalidConfig holds the plain values that each deployment of a release sees against
// the schema of its component.
func invalidConfig(repo *envrepo.Repo, r *render.Result) (found []finding) {
	rel := r.Release
	id := rel.Environment.Name + "/" + rel.Name
	schema, err := contract.LoadSchema(repo.FS(), rel.Component)
	if err != nil {
		return []finding{{Severity: "error", Release: id, File: rel.Component.ConfigSchema, Message: err.Error(), Hint: strings.Join(hints(err), "; ")}}
	}
	for _, d := range deployments(r) {
		for _, invalid := range schema.Check(d.objects, rel.Component.Image, r.Values) {
			f := finding{Severity: "error", Release: id, File: rel.Dir, Object: invalid.Workload,
				Message: fmt.Sprintf("configuration key %s %s in %s", invalid.Key, invalid.Rule, rel.Environment.Name),
				Hint:    "correct the value, or what " + invalid.Schema + " demands of it"}
			if file := contract.Declared(repo.FS(), rel.Dir, invalid.Key); file != "" {
				f.File, f.Message = file, file+": "+f.Message
			}
			found = append(found, f)
		}
	}
	return found
}

// deployed is one deployment of a release: its only one, or a tag's.
type deployed struct {
	tag, digest string
	objects     []*unstructured.Unstructured // with what tags share
}

// deployments are those of a release that render. Of a broken tag nothing is known;
// that it is broken is reported.
func deployments(r *render.Result) (all []deployed) {
	if !r.Release.Tagged() {
		return append(all, deployed{"", r.Release.Digest, r.Shared})
	}
	for _, t := range r.Tags {
		if t.Broken == nil {
			all = append(all, deployed{t.Name, t.Digest, append(slices.Clone(r.Shared), t.Objects...)})
		}
	}
	return all
}

// buildContract is the contract recorded with the build of a digest, if any.
func buildContract(repo *envrepo.Repo, component, digest string) *envrepo.Contract {
	if digest == "" {
		return nil
	}
	build, err := repo.Build(component, digest)
	if err != nil {
		return nil
	}
	return build.Config
}

// add notes a finding. What lies in a file that several releases read is found
// in each of them: it is told once, with all of their names.
func (c *checked) add(f finding) {
	key := f
	key.Release = ""
	if i, ok := c.told[key]; ok {
		told := &c.Findings[i]
		told.join(f.Release)
		return
	}
	if c.told == nil {
		c.told = map[finding]int{}
	}
	c.told[key] = len(c.Findings)
	if f.Severity == "error" {
		c.Errors++
	} else {
		c.Warnings++
	}
	c.Findings = append(c.Findings, f)
}

// note says what could not be judged, once.
func (c *checked) note(text string) {
	if !slices.Contains(c.Notes, text) {
		c.Notes = append(c.Notes, text)
	}
}

// join adds the name of a release in which the same was found.
func (f *finding) join(release string) {
	if release != "" && !slices.Contains(strings.Split(f.Release, ", "), release) {
		f.Release = strings.TrimPrefix(f.Release+", "+release, ", ")
	}
}

// errorFinding is an error as a finding. Where a file is to blame, the message
// is about that file alone, whatever was being rendered.
func errorFinding(release string, err error) finding {
	f := finding{Severity: "error", Release: release, Message: err.Error(), Hint: strings.Join(hints(err), "; ")}
	if input := (*render.InputError)(nil); errors.As(err, &input) {
		f.File, f.Message = input.File, input.Error()
	}
	return f
}

// reachedSince lists the releases whose rendered input lies in shared files
// that changed since base.
func reachedSince(before, v *view) ([]reached, error) {
	changed, err := changedShared(before.FS, v.FS)
	if err != nil {
		return nil, err
	}
	var list []reached
	for _, env := range v.Repo.Project().Environments {
		names, err := v.Repo.ReleaseNames(env.Name)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			rel, err := v.Repo.PartialRelease(env.Name, name)
			if err != nil {
				continue // reported as a finding already
			}
			closure, _ := render.InputClosure(v.FS, rel) // what is wrong with it has been reported, too
			if files := within(changed, closure.Paths); len(files) > 0 {
				list = append(list, reached{Environment: env.Name, Component: name, Files: files, Changes: []objectDiff{}})
			}
		}
	}
	return list, nil
}

// within selects the files that are one of paths or lie below one.
func within(files, paths []string) []string {
	var found []string
	for _, f := range files {
		for _, p := range paths {
			if f == p || strings.HasPrefix(f, p+"/") {
				found = append(found, f)
				break
			}
		}
	}
	sort.Strings(found)
	return found
}

func (a *app) printChecked(v *view, result checked) error {
	for _, n := range result.Notes {
		a.note("note: %s", n)
	}
	err := a.print(result, func(t *table) {
		for i, f := range result.Findings {
			if i+1 < len(result.Findings) && result.Findings[i+1].Hint == f.Hint {
				f.Hint = "" // said once, below the last that it is for
			}
			t.line(findingText(f))
		}
		for _, r := range result.Reached {
			reachedLines(t, r)
		}
		for _, name := range result.Policies {
			t.line(fmt.Sprintf("policy: what guards promotions into %s is changed by sluice.yaml", name))
		}
		for _, d := range result.Digests {
			t.line(fmt.Sprintf("digest: %s changes to %s without a promotion", d.Release, buildID(d.New)))
		}
		gateLines(t, result.Gates)
		t.line(fmt.Sprintf("%s in %s: %s, %s", count(result.Releases, "release"), v.name(), count(result.Errors, "error"), count(result.Warnings, "warning")))
	})
	if err == nil && result.Errors > 0 {
		return codedError{fmt.Errorf("the repository has %s", count(result.Errors, "error")), exitFindings}
	}
	return err
}

// findingText is a finding on one line, its hint on a second.
func findingText(f finding) string {
	parts := []string{f.Severity}
	for _, p := range []string{f.Release, f.Object} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	text := strings.Join(parts, " ") + ": " + f.Message
	if f.File != "" && !strings.Contains(f.Message, f.File) {
		text += " (" + f.File + ")"
	}
	if f.Hint != "" {
		text += "\n  hint: " + f.Hint
	}
	return printable(text)
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
