package envrepo

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// RecordBuild writes the record of a build and deploys it to the first
// environment, where that or the component says autoDeploy. Recording the same
// build again is no change, and deploys nothing; another time of creation or
// another run of the pipeline does not make it another build. A record with other
// content is a *BuildConflictError. An empty Image means the component's.
func RecordBuild(t *Tree, b Build) (Summary, error) { return record(t, b, autoDeploy) }

// AddBuild is RecordBuild that deploys nothing.
func AddBuild(t *Tree, b Build) (Summary, error) {
	return record(t, b, func(*Tree, *Repo, Component, string, *Summary) error { return nil })
}

// record writes the record of a build, and what deploy adds to it.
func record(t *Tree, b Build, deploy func(*Tree, *Repo, Component, string, *Summary) error) (Summary, error) {
	return edit(t, func(layer *Tree) (Summary, error) {
		repo, err := Open(layer)
		if err != nil {
			return Summary{}, err
		}
		component, err := repo.Component(b.Component)
		if err != nil {
			return Summary{}, err
		}
		var summary Summary
		if b, err = normalize(b, component, &summary); err != nil {
			return Summary{}, err
		}
		file := buildFile(b.Component, b.Digest)
		data, err := encodeBuild(file, b)
		if err != nil {
			return Summary{}, err
		}
		recorded, err := exists(layer, file)
		if err != nil {
			return Summary{}, err
		}
		if recorded {
			old, err := repo.readBuild(file)
			if err != nil {
				return Summary{}, err
			}
			if fields := differences(old, b); len(fields) > 0 {
				return Summary{}, &BuildConflictError{File: file, Fields: fields}
			}
			summary.Message = fmt.Sprintf("build %s of %s is already recorded", b.ID(), b.Component)
			if old.Run != b.Run {
				summary.note("the record names another run, %s: the first one stays", orNone(strings.TrimSpace(old.Run.ID+" "+old.Run.URL)))
			}
			if !slices.Equal(old.Checks, b.Checks) {
				summary.note("the record has other links of its checks: the first ones stay")
			}
			return summary, nil
		}
		if err := layer.WriteFile(file, data); err != nil {
			return Summary{}, err
		}
		summary.Message = fmt.Sprintf("record build %s %s", b.Component, b.ID())
		err = deploy(layer, repo, component, b.Digest, &summary)
		return summary, err
	})
}

// normalize checks what a caller says of a build.
func normalize(b Build, component Component, summary *Summary) (Build, error) {
	if !ValidDigest(b.Digest) {
		return Build{}, &NotDigestError{Ref: b.Digest, Exact: true}
	}
	if b.Image == "" {
		b.Image = component.Image
	}
	if problem, hint := imageProblem(b.Image); problem != "" {
		return Build{}, refuse(hint, "image %q %s", clip(b.Image), problem)
	}
	if b.Image != component.Image {
		return Build{}, refuse(fmt.Sprintf("record it under the component that it is, or correct image in %s", componentFile(b.Component)),
			"build of image %s, but the image of component %s is %s", b.Image, b.Component, component.Image)
	}
	if !b.CreatedAt.IsZero() {
		b.CreatedAt = b.CreatedAt.UTC().Truncate(time.Second)
	}
	b.Checks = slices.Clone(b.Checks)
	urls := []*string{&b.Source.Repository, &b.Run.URL}
	for i := range b.Checks {
		urls = append(urls, &b.Checks[i].URL)
	}
	for _, u := range urls {
		if clean, ok := withoutPassword(*u); ok {
			*u = clean
			summary.note("removed the password from the URL %s", clean)
		}
	}
	return b, b.bounded()
}

// Limits of the texts of a record, in bytes. Records are for ever, and read with
// every list of builds.
const (
	maxRecordText = 2000 // of one text
	maxChecks     = 100
)

// bounded refuses texts that are too long, or of several lines where one is due.
func (b Build) bounded() error {
	if len(b.Checks) > maxChecks {
		return refuse("record the checks that decide something", "recording build %s: %d checks, more than %d", b.ID(), len(b.Checks), maxChecks)
	}
	type text struct{ name, value string }
	lines := []text{{"source repository", b.Source.Repository}, {"source commit", b.Source.Commit}, {"source ref", b.Source.Ref},
		{"run id", b.Run.ID}, {"run URL", b.Run.URL}}
	for _, check := range b.Checks {
		lines = append(lines, text{"summary of check " + clip(check.Name), check.Summary})
		if problem := pageProblem(check.URL); check.URL != "" && problem != "" {
			return refuse("give the address of the check's report, or leave it out", "recording build %s: the URL %q of check %s %s",
				b.ID(), clip(check.URL), clip(check.Name), problem)
		}
	}
	for _, line := range append(lines, text{"source message", b.Source.Message}) {
		if len(line.value) > maxRecordText {
			return refuse("shorten it", "recording build %s: the %s has %d bytes, more than %d", b.ID(), line.name, len(line.value), maxRecordText)
		}
	}
	for _, line := range lines {
		if utf8.ValidString(line.value) && strings.IndexFunc(line.value, unprintable) >= 0 {
			return refuse("give one line of text", "recording build %s: the %s %q is not one line of printable text", b.ID(), line.name, clip(line.value))
		}
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// WithoutCredentials is a URL as a record keeps it: without user information, and
// without query parameters that are named like a secret.
func WithoutCredentials(u string) string {
	clean, _ := withoutPassword(u)
	return clean
}

// secretParameter matches the names of query parameters that carry credentials.
var secretParameter = regexp.MustCompile(`(?i)token|password|passwd|secret|signature|credential|apikey|api_key|^(sig|key|auth)$`)

// withoutPassword takes the user information off a URL, and secrets in its query.
// CI systems like to clone with a token in it, and a record is for ever.
func withoutPassword(s string) (string, bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s, false
	}
	host, path, slash := strings.Cut(rest, "/")
	at := strings.LastIndex(host, "@")
	if scheme == "ssh" && at >= 0 && !strings.Contains(host[:at], ":") {
		at = -1 // a user name alone is part of the address
	}
	clean := scheme + "://" + host[at+1:]
	if slash {
		clean += "/" + path
	}
	parsed, err := url.Parse(clean)
	if err != nil {
		if at >= 0 {
			return scheme + "://", true
		}
		clean, _, cut := strings.Cut(clean, "?") // whatever stands in it
		return clean, cut
	}
	query, secret := parsed.Query(), false
	for name := range query {
		if secretParameter.MatchString(name) {
			query.Del(name)
			secret = true
		}
	}
	if secret {
		parsed.RawQuery = query.Encode()
		clean = parsed.String()
	}
	return clean, at >= 0 || secret
}

// differences names the fields in which two records differ. When and in which run
// of a pipeline it was recorded, and where that shows its checks, is no part of a
// build's identity: a pipeline that builds the same bytes of the same commit again
// has nothing new to say.
func differences(a, b Build) []string {
	var fields []string
	for _, f := range []struct {
		name string
		a, b any
	}{
		{"component", a.Component, b.Component}, {"image", a.Image, b.Image}, {"digest", a.Digest, b.Digest},
		{"source", a.Source, b.Source}, {"config", a.Config, b.Config}, {"checks", withoutURLs(a.Checks), withoutURLs(b.Checks)},
	} {
		if !reflect.DeepEqual(f.a, f.b) {
			fields = append(fields, f.name)
		}
	}
	return fields
}

func withoutURLs(checks []Check) []Check {
	checks = slices.Clone(checks)
	for i := range checks {
		checks[i].URL = ""
	}
	return checks
}

// autoDeploy deploys a build that was just recorded.
func autoDeploy(t *Tree, repo *Repo, component Component, digest string, summary *Summary) error {
	first := repo.Project().Environments[0]
	wanted := first.AutoDeploy
	if component.AutoDeploy != nil {
		wanted = *component.AutoDeploy
	}
	if !wanted {
		return nil
	}
	rel, err := repo.PartialRelease(first.Name, component.Name)
	if unknown := (*UnknownReleaseError)(nil); errors.As(err, &unknown) {
		summary.note("not deployed: %s has no overlay in %s", component.Name, first.Name)
		return nil
	}
	if err != nil {
		return err
	}
	subject := fmt.Sprintf("%s, deploy it to %s", summary.Message, first.Name)
	if !rel.Tagged() {
		if rel.Digest == digest {
			return nil
		}
		done, err := deployUntagged(t, rel, digest, subject)
		summary.Message = subject
		summary.Notes = append(summary.Notes, done.Notes...)
		return err
	}
	tag, err := rel.idleTag()
	if err != nil {
		summary.note("not deployed: %s", err)
		return nil
	}
	summary.Message = subject + " as " + tag.Name
	return pinTag(t, rel, tag, digest, summary)
}

// encodeBuild prints a record in block style, its fields in the order of the
// design. The same build is the same bytes.
func encodeBuild(file string, b Build) ([]byte, error) {
	for _, s := range []string{b.Source.Repository, b.Source.Commit, b.Source.Ref, b.Source.Message, b.Run.ID, b.Run.URL} {
		if !utf8.ValidString(s) {
			return nil, refuse("", "recording build %s: %q is not UTF-8 text", b.ID(), clip(s))
		}
	}
	root := mapNode(0, entry{"apiVersion", textNode(APIVersion)}, entry{"kind", textNode("Build")})
	add := func(n *yaml.Node, key string, value *yaml.Node) {
		if value.Value != "" || len(value.Content) > 0 {
			n.Content = append(n.Content, textNode(key), value)
		}
	}
	add(root, "component", textNode(b.Component))
	add(root, "image", textNode(b.Image))
	add(root, "digest", textNode(b.Digest))
	if !b.CreatedAt.IsZero() {
		add(root, "createdAt", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!timestamp", Value: b.CreatedAt.Format(time.RFC3339)})
	}
	source := mapNode(0)
	add(source, "repository", textNode(b.Source.Repository))
	add(source, "commit", textNode(b.Source.Commit))
	add(source, "ref", textNode(b.Source.Ref))
	add(source, "message", textNode(b.Source.Message))
	add(root, "source", source)
	run := mapNode(0)
	add(run, "id", textNode(b.Run.ID))
	add(run, "url", textNode(b.Run.URL))
	add(root, "run", run)
	if b.Config != nil {
		config := mapNode(0)
		add(config, "required", textsNode(b.Config.Required))
		add(config, "optional", textsNode(b.Config.Optional))
		if len(config.Content) == 0 {
			config.Style = yaml.FlowStyle
		}
		root.Content = append(root.Content, textNode("config"), config)
	}
	checks := listNode(0)
	for _, c := range b.Checks {
		check := mapNode(0)
		add(check, "name", textNode(c.Name))
		add(check, "status", textNode(c.Status))
		add(check, "summary", textNode(c.Summary))
		add(check, "url", textNode(c.URL))
		checks.Content = append(checks.Content, check)
	}
	add(root, "checks", checks)
	var out bytes.Buffer
	if err := yaml.NewEncoder(&out).Encode(root); err != nil {
		return nil, fmt.Errorf("printing %s: %w", file, err)
	}
	got, err := decodeBuild(file, out.Bytes())
	if err != nil {
		return nil, err
	}
	fields := differences(got, b)
	if got.Run != b.Run {
		fields = append(fields, "run")
	}
	if len(fields) == 0 && !slices.Equal(got.Checks, b.Checks) {
		fields = append(fields, "checks")
	}
	if len(fields) > 0 || !got.CreatedAt.Equal(b.CreatedAt) {
		return nil, refuse("", "recording build %s: %s cannot be written as it is", b.ID(), strings.Join(fields, ", "))
	}
	return out.Bytes(), nil
}

func textsNode(texts []string) *yaml.Node {
	n := listNode(0)
	for _, s := range texts {
		n.Content = append(n.Content, textNode(s))
	}
	return n
}
