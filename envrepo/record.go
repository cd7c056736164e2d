package envrepo

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// RecordBuild writes the record of a build and deploys it to the first
// environment, where that or the component says autoDeploy. Recording the same
// build again is no change, and deploys nothing; another time of creation does
// not make it another build. A record with other content is a
// *BuildConflictError. An empty Image means the component's.
func RecordBuild(t *Tree, b Build) (Summary, error) {
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
			return Summary{Message: fmt.Sprintf("build %s of %s is already recorded", b.ID(), b.Component)}, nil
		}
		if err := layer.WriteFile(file, data); err != nil {
			return Summary{}, err
		}
		summary.Message = fmt.Sprintf("record build %s %s", b.Component, b.ID())
		err = autoDeploy(layer, repo, component, b.Digest, &summary)
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
	for _, u := range []*string{&b.Source.Repository, &b.Run.URL} {
		if clean, ok := withoutPassword(*u); ok {
			*u = clean
			summary.note("removed the password from the URL %s", clean)
		}
	}
	return b, nil
}

// withoutPassword takes the user information off a URL. CI systems like to
// clone with a token in it, and a record is for ever.
func withoutPassword(s string) (string, bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s, false
	}
	host, path, slash := strings.Cut(rest, "/")
	at := strings.LastIndex(host, "@")
	if at < 0 || scheme == "ssh" && !strings.Contains(host[:at], ":") {
		return s, false
	}
	clean := scheme + "://" + host[at+1:]
	if slash {
		clean += "/" + path
	}
	if _, err := url.Parse(clean); err != nil {
		return scheme + "://", true
	}
	return clean, true
}

// differences names the fields in which two records differ. The time of
// creation is no part of a build's identity.
func differences(a, b Build) []string {
	var fields []string
	for _, f := range []struct {
		name string
		a, b any
	}{
		{"component", a.Component, b.Component}, {"image", a.Image, b.Image}, {"digest", a.Digest, b.Digest},
		{"source", a.Source, b.Source}, {"run", a.Run, b.Run}, {"config", a.Config, b.Config}, {"checks", a.Checks, b.Checks},
	} {
		if !reflect.DeepEqual(f.a, f.b) {
			fields = append(fields, f.name)
		}
	}
	return fields
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
	if fields := differences(got, b); len(fields) > 0 || !got.CreatedAt.Equal(b.CreatedAt) {
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
