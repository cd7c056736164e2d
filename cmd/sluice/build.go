package main

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/envrepo"
)

func newBuildCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "build",
		Short: "Record builds, and list what was recorded",
		Long: `A build is an immutable record of one image digest: where it came from, what
configuration it needs and which checks it passed. Recording one deploys it to
the first environment where that environment says autoDeploy: true.`,
		RunE: noSubcommand,
	}
	c.AddCommand(newBuildRecordCommand(a), newBuildListCommand(a), newBuildShowCommand(a))
	return c
}

type buildRecordOptions struct {
	component, image, digest                       string
	sourceCommit, sourceURL, sourceRef, sourceText string
	runURL, runID, contract, createdAt             string
	checks, checkURLs                              []string
	noCI                                           bool
}

func newBuildRecordCommand(a *app) *cobra.Command {
	var o buildRecordOptions
	c := &cobra.Command{
		Use:   "record --component NAME --digest DIGEST",
		Short: "Record a build's digest and deploy it to the first environment",
		Long: `Writes the record of a build, once: the same again changes nothing, other
content for the same digest is an error. When and in which run it was recorded
is no part of the content. Where the first environment says autoDeploy: true,
and the component does not say otherwise, the digest is pinned there in the same
commit.

Before that the configuration contract is checked, without keys: of this build,
of the digests that keep running and of the one that a rollback would bring
back. With a required key missing, the build is recorded and not deployed, and
the command ends with exit code 6.

What no flag gives is taken from the environment of the pipeline, and told on
standard error: from SLUICE_SOURCE_URL, SLUICE_SOURCE_COMMIT, SLUICE_SOURCE_REF,
SLUICE_SOURCE_MESSAGE, SLUICE_RUN_ID and SLUICE_RUN_URL, then from what GitHub
Actions or GitLab CI set. Of a pull request that is built as a trial merge, the
commit is the one that was pushed.`,
		Example: `  sluice build record --component api --image registry.example.com/shop/api \
    --digest sha256:3f2a… --source-commit 9f8e… --source-url https://github.com/shop/api \
    --run-url https://ci.example.com/runs/8841 --check trivy=passed:"0 critical" \
    --check-url trivy=https://ci.example.com/runs/8841/trivy`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runBuildRecord(c, o) },
	}
	f := c.Flags()
	f.StringVar(&o.component, "component", "", "component that was built")
	f.StringVar(&o.image, "image", "", "image `name`, or name@sha256:… (default: the component's)")
	f.StringVar(&o.digest, "digest", "", "image digest, sha256:…")
	f.StringVar(&o.sourceCommit, "source-commit", "", "commit that was built")
	f.StringVar(&o.sourceURL, "source-url", "", "repository that was built")
	f.StringVar(&o.sourceRef, "source-ref", "", "branch or tag that was built")
	f.StringVar(&o.sourceText, "source-message", "", "first line of the commit's message")
	f.StringVar(&o.runURL, "run-url", "", "address of the CI run")
	f.StringVar(&o.runID, "run-id", "", "number of the CI run")
	f.StringVar(&o.createdAt, "created-at", "", "`time` of the build, RFC 3339 (default: now)")
	f.StringArrayVar(&o.checks, "check", nil, "outcome of a check, `NAME=STATUS[:SUMMARY]` (repeatable)")
	f.StringArrayVar(&o.checkURLs, "check-url", nil, "page of a check's report, `NAME=URL` (repeatable)")
	f.StringVar(&o.contract, "contract", "", "YAML `file` with the configuration the build needs: required and optional lists")
	f.BoolVar(&o.noCI, "no-ci", false, "take nothing from the environment of the pipeline")
	_ = c.MarkFlagRequired("component")
	return c
}

func (a *app) runBuildRecord(c *cobra.Command, o buildRecordOptions) error {
	build, err := a.buildFromFlags(o)
	if err != nil {
		return err
	}
	if !o.noCI {
		for _, note := range addOrigin(&build, c.Flags().Changed, origins(a.Getenv, readEvent)) {
			a.note("note: %s", note)
		}
	}
	repo, err := a.openRemote(c.Context())
	if err != nil {
		return err
	}
	defer repo.Close()
	var stopped error
	done, err := repo.change(c.Context(), func(t *envrepo.Tree) (summary envrepo.Summary, err error) {
		summary, stopped, err = recordBuild(c.Context(), t, build, a.Now())
		return summary, err
	})
	if err != nil {
		return err
	}
	if err := a.printCommitted(done); err != nil {
		return err
	}
	return stopped
}

// buildFromFlags checks and joins the flags; envrepo checks the content.
func (a *app) buildFromFlags(o buildRecordOptions) (envrepo.Build, error) {
	b := envrepo.Build{
		Component: o.component, Image: o.image, Digest: o.digest, CreatedAt: a.Now().UTC().Truncate(time.Second),
		Source: envrepo.Source{Repository: o.sourceURL, Commit: o.sourceCommit, Ref: o.sourceRef, Message: firstLine(o.sourceText)},
		Run:    envrepo.Run{ID: o.runID, URL: o.runURL},
	}
	if name, digest, ok := strings.Cut(o.image, "@"); ok {
		if o.digest != "" && o.digest != digest {
			return b, usagef("--image names digest %s and --digest names %s", digest, o.digest)
		}
		b.Image, b.Digest = name, digest
	}
	if b.Digest == "" {
		return b, withHint(usagef("no digest is given"), "--digest sha256:…, as the registry printed it when the image was pushed")
	}
	if o.createdAt != "" {
		at, err := time.Parse(time.RFC3339, o.createdAt)
		if err != nil {
			return b, usagef("--created-at %q is not a time such as 2026-11-21T10:00:00Z", o.createdAt)
		}
		b.CreatedAt = at.UTC()
		if b.Ahead(a.Now()) {
			return b, withHint(usagef("--created-at %s is in the future: builds made until then would not be newer", o.createdAt),
				"give the time at which the image was built, or leave it out; it is %s here", a.Now().UTC().Format(time.RFC3339))
		}
	}
	for _, arg := range o.checks {
		check, err := parseCheck(arg)
		if err != nil {
			return b, err
		}
		if check.Status != "passed" && check.Status != "failed" {
			a.note("note: check %s has status %q; a gate that asks for it is met by \"passed\" only, and a record never changes", check.Name, check.Status)
		}
		b.Checks = append(b.Checks, check)
	}
	if err := linkChecks(b.Checks, o.checkURLs); err != nil {
		return b, err
	}
	if o.contract != "" {
		contract, err := a.readContract(o.contract)
		if err != nil {
			return b, err
		}
		b.Config = contract
	}
	return b, nil
}

// parseCheck reads NAME=STATUS[:SUMMARY].
func parseCheck(arg string) (envrepo.Check, error) {
	name, rest, ok := strings.Cut(arg, "=")
	status, summary, _ := strings.Cut(rest, ":")
	if !ok || name == "" || status == "" {
		return envrepo.Check{}, withHint(usagef("--check %q is not NAME=STATUS[:SUMMARY]", arg), `for example --check trivy=passed:"0 critical"`)
	}
	return envrepo.Check{Name: name, Status: status, Summary: summary}, nil
}

// linkChecks gives checks the pages that NAME=URL name.
func linkChecks(checks []envrepo.Check, args []string) error {
	for _, arg := range args {
		name, address, ok := strings.Cut(arg, "=")
		if !ok || name == "" || address == "" {
			return withHint(usagef("--check-url %q is not NAME=URL", arg), "for example --check-url trivy=https://ci.example.com/runs/8841/trivy")
		}
		i := slices.IndexFunc(checks, func(c envrepo.Check) bool { return c.Name == name })
		switch {
		case i < 0:
			return withHint(usagef("--check-url %s=…: there is no check %s", name, name), "give its outcome as well: --check %s=passed", name)
		case checks[i].URL != "":
			return usagef("--check-url %s=… is given twice", name)
		}
		checks[i].URL = address
	}
	return nil
}

// readContract reads a file of the form {required: […], optional: […]}, or
// the same below the key config, as component.yaml has it.
func (a *app) readContract(file string) (*envrepo.Contract, error) {
	data, err := os.ReadFile(a.abs(file))
	if err != nil {
		return nil, fmt.Errorf("reading the contract: %w", err)
	}
	type contract struct {
		Required []string `json:"required"`
		Optional []string `json:"optional"`
	}
	var in struct {
		contract `json:",inline"`
		Config   *contract `json:"config"`
	}
	if err := yaml.UnmarshalStrict(data, &in); err != nil {
		return nil, withHint(fmt.Errorf("reading the contract %s: %w", file, err), "it has the lists required and optional, such as: required: [DATABASE_URL]")
	}
	if in.Config != nil {
		in.contract = *in.Config
	}
	return &envrepo.Contract{Required: in.Required, Optional: in.Optional}, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// buildView is how a build is printed.
type buildView struct {
	ID           string        `json:"id"`
	Component    string        `json:"component"`
	Image        string        `json:"image"`
	Digest       string        `json:"digest"`
	CreatedAt    time.Time     `json:"createdAt"`
	Source       *sourceView   `json:"source,omitempty"`
	Run          *runView      `json:"run,omitempty"`
	Config       *contractView `json:"config,omitempty"`
	Checks       []checkView   `json:"checks,omitempty"`
	Environments []string      `json:"environments,omitempty"`
}

type sourceView struct {
	Repository string `json:"repository,omitempty"`
	Commit     string `json:"commit,omitempty"`
	Ref        string `json:"ref,omitempty"`
	Message    string `json:"message,omitempty"`
	URL        string `json:"url,omitempty"` // the commit's page, as far as the repository's host tells
}

type runView struct {
	ID  string `json:"id,omitempty"`
	URL string `json:"url,omitempty"`
}

type contractView struct {
	Required []string `json:"required,omitempty"`
	Optional []string `json:"optional,omitempty"`
}

type checkView struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Summary string `json:"summary,omitempty"`
	URL     string `json:"url,omitempty"`
}

func viewBuild(b envrepo.Build, environments []string) buildView {
	v := buildView{
		ID: b.ID(), Component: b.Component, Image: b.Image, Digest: b.Digest,
		CreatedAt: b.CreatedAt, Environments: environments,
	}
	if b.Source != (envrepo.Source{}) {
		v.Source = &sourceView{b.Source.Repository, b.Source.Commit, b.Source.Ref, b.Source.Message, commitPage(b.Source)}
	}
	if b.Run != (envrepo.Run{}) {
		r := runView(b.Run)
		v.Run = &r
	}
	if b.Config != nil {
		v.Config = &contractView{b.Config.Required, b.Config.Optional}
	}
	for _, c := range b.Checks {
		v.Checks = append(v.Checks, checkView(c))
	}
	return v
}

// commitHash is a commit as a page of it is named.
var commitHash = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

// commitPage is where the host of a repository shows a commit: most do so below
// commit/. It is "" for a repository that is not on the web.
func commitPage(s envrepo.Source) string {
	base := strings.TrimSuffix(strings.TrimSuffix(s.Repository, "/"), ".git")
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || !commitHash.MatchString(s.Commit) {
		return ""
	}
	if strings.Contains(u.Host, "gitlab") {
		base += "/-"
	}
	return base + "/commit/" + s.Commit
}

func newBuildListCommand(a *app) *cobra.Command {
	var component, ref string
	c := &cobra.Command{
		Use:   "list [COMPONENT]",
		Short: "List builds, newest first, and where each is deployed",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				component = args[0]
			}
			v, err := a.openView(c.Context(), ref, fromBranch)
			if err != nil {
				return err
			}
			defer v.Close()
			return a.runBuildList(v, component)
		},
	}
	c.Flags().StringVar(&component, "component", "", "only this component's builds")
	refFlag(c, &ref, fromBranch)
	return c
}

func (a *app) runBuildList(v *view, component string) error {
	components := []string{component}
	if component == "" {
		all, err := v.Repo.Components()
		if err != nil {
			return err
		}
		components = all
	} else if _, err := v.Repo.Component(component); err != nil {
		return err
	}
	views := []buildView{}
	for _, name := range components {
		builds, err := v.Repo.Builds(name)
		if err != nil {
			return err
		}
		running, err := deployedIn(v.Repo, name)
		if err != nil {
			return err
		}
		for _, b := range builds {
			views = append(views, viewBuild(b, running[b.Digest]))
		}
	}
	return a.print(views, func(t *table) {
		t.header("BUILD", "COMPONENT", "CREATED", "COMMIT", "CHECKS", "ENVIRONMENTS")
		for _, b := range views {
			commit := ""
			if b.Source != nil {
				commit = strings.TrimSpace(short(b.Source.Commit) + " " + cut(b.Source.Message, 40))
			}
			t.row(b.ID, b.Component, b.CreatedAt.Format("2006-01-02 15:04"), commit, checksText(b.Checks), strings.Join(b.Environments, ", "))
		}
	})
}

// deployedIn maps digests of a component to the environments (and tags) whose
// overlays pin them.
func deployedIn(repo *envrepo.Repo, component string) (map[string][]string, error) {
	in := map[string][]string{}
	for _, env := range repo.Project().Environments {
		rel, ok, err := optionalRelease(repo, env.Name, component)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if rel.Digest != "" {
			in[rel.Digest] = append(in[rel.Digest], env.Name)
		}
		for _, tag := range rel.Tags {
			in[tag.Digest] = append(in[tag.Digest], env.Name+"/"+tag.Name)
		}
	}
	return in, nil
}

// optionalRelease reads a release that an environment need not have.
func optionalRelease(repo *envrepo.Repo, env, name string) (envrepo.Release, bool, error) {
	names, err := repo.ReleaseNames(env)
	if err != nil {
		return envrepo.Release{}, false, err
	}
	for _, n := range names {
		if n == name {
			rel, err := repo.PartialRelease(env, name)
			return rel, err == nil, err
		}
	}
	return envrepo.Release{}, false, nil
}

func checksText(checks []checkView) string {
	var parts []string
	for _, c := range checks {
		parts = append(parts, c.Name+" "+c.Status)
	}
	return strings.Join(parts, ", ")
}

func newBuildShowCommand(a *app) *cobra.Command {
	var component, ref string
	c := &cobra.Command{
		Use:   "show [COMPONENT] BUILD",
		Short: "Show one build, named by its digest or a prefix of it",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				component = args[0]
			}
			v, err := a.openView(c.Context(), ref, fromBranch)
			if err != nil {
				return err
			}
			defer v.Close()
			build, err := findBuild(v.Repo, component, args[len(args)-1])
			if err != nil {
				return err
			}
			running, err := deployedIn(v.Repo, build.Component)
			if err != nil {
				return err
			}
			shown := viewBuild(build, running[build.Digest])
			return a.printAs("yaml", shown, func(t *table) { buildTable(t, shown) })
		},
	}
	c.Flags().StringVar(&component, "component", "", "the build's component, when several share a prefix")
	refFlag(c, &ref, fromBranch)
	return c
}

func buildTable(t *table, b buildView) {
	t.row("build", b.ID)
	t.row("component", b.Component)
	t.row("image", b.Image+"@"+b.Digest)
	t.row("created", b.CreatedAt.Format(time.RFC3339))
	if b.Source != nil {
		t.row("source", strings.TrimSpace(b.Source.Repository+" "+b.Source.Commit+" "+b.Source.Message))
	}
	if b.Source != nil && b.Source.URL != "" {
		t.row("commit", b.Source.URL)
	}
	if b.Run != nil {
		t.row("run", strings.TrimSpace(b.Run.ID+" "+b.Run.URL))
	}
	for _, c := range b.Checks {
		t.row("check", strings.Join(strings.Fields(c.Name+" "+c.Status+" "+c.Summary+" "+c.URL), " "))
	}
	t.row("deployed in", strings.Join(b.Environments, ", "))
}

// findBuild looks for a build in one component, or in all of them.
func findBuild(repo *envrepo.Repo, component, ref string) (envrepo.Build, error) {
	if component != "" {
		return repo.Build(component, ref)
	}
	components, err := repo.Components()
	if err != nil {
		return envrepo.Build{}, err
	}
	var found []envrepo.Build
	var firstErr error
	for _, name := range components {
		b, err := repo.Build(name, ref)
		if err != nil {
			if firstErr == nil {
				firstErr = err
			}
			continue
		}
		found = append(found, b)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return envrepo.Build{}, withHint(fmt.Errorf("build %s is of several components: %s and %s", ref, found[0].Component, found[1].Component), "name the component: sluice build show COMPONENT %s", ref)
	case firstErr != nil:
		return envrepo.Build{}, firstErr
	default:
		return envrepo.Build{}, withHint(fmt.Errorf("the repository has no components, so no build %s", ref), "sluice component add")
	}
}

// cut shortens s to n characters for a table.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
