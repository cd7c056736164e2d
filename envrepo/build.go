package envrepo

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

var buildFields = fieldTable{
	"":         {"apiVersion", "kind", "component", "image", "digest", "createdAt", "source", "run", "config", "checks"},
	"source":   {"repository", "commit", "ref", "message"},
	"run":      {"id", "url"},
	"config":   {"required", "optional"},
	"checks[]": {"name", "status", "summary", "url"},
}

var statusPattern = regexp.MustCompile(`^[a-z][-_a-z0-9]{0,62}$`)

func buildsDir(component string) string { return "builds/" + component }

func buildFile(component, digest string) string {
	return fmt.Sprintf("%s/%s.yaml", buildsDir(component), ShortDigest(digest))
}

// decodeBuild decodes a build record; its path must be builds/<component>/<id>.yaml.
func decodeBuild(file string, data []byte) (Build, error) {
	var b Build
	err := decodeFile(file, "Build", buildFields, data, func(o object) {
		folder := path.Base(path.Dir(file))
		if o.require("component") {
			b.Component = o.text("component", componentNameProblem)
			if b.Component != "" && b.Component != folder {
				o.problem("component", "move the file or correct the field", "is %q, but the folder is %s", clip(b.Component), path.Dir(file))
			}
		}
		b.Image = decodeImage(o)
		if o.require("digest") {
			b.Digest = o.text("digest", digestProblem)
			if ValidDigest(b.Digest) && path.Base(file) != b.ID()+".yaml" {
				o.problem("digest", "the file is named by the digest's first 12 hex digits", "starts with %s, but the file is %s", b.ID(), path.Base(file))
			}
		}
		b.CreatedAt = decodeTime(o, "createdAt")
		if source, ok := o.child("source"); ok {
			b.Source = Source{
				Repository: source.text("repository", nil), Commit: source.text("commit", nil),
				Ref: source.text("ref", nil), Message: source.text("message", nil),
			}
		}
		if run, ok := o.child("run"); ok {
			b.Run = Run{ID: run.text("id", nil), URL: run.text("url", nil)}
		}
		if config, ok := o.child("config"); ok {
			contract := decodeContract(config)
			b.Config = &contract
		}
		b.Checks = decodeChecks(o)
	})
	if err != nil {
		return Build{}, err
	}
	return b, nil
}

func decodeChecks(o object) []Check {
	var checks []Check
	lines := map[string]int{}
	for _, it := range o.list("checks") {
		c := o.d.object(it.node, it.path)
		check := Check{
			Name:    c.text("name", matching(wordPattern, "the name of a check")),
			Status:  c.text("status", matching(statusPattern, "a word such as passed or failed")),
			Summary: c.text("summary", nil),
			URL:     c.text("url", pageProblem),
		}
		c.require("name")
		c.require("status")
		if line, seen := lines[check.Name]; seen && check.Name != "" {
			c.problem("name", "remove one of them", "%q is already the check of line %d", check.Name, line)
		}
		lines[check.Name] = it.node.Line
		checks = append(checks, check)
	}
	return checks
}

// maxURL is the longest address of a page, in bytes.
const maxURL = 2000

// pageProblem says why s is not the address of a page that people can be sent to; ""
// when it is.
func pageProblem(s string) string {
	if len(s) > maxURL {
		return fmt.Sprintf("has %d bytes, more than %d", len(s), maxURL)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || strings.ContainsFunc(s, unprintable) || strings.ContainsAny(s, " \\"):
		return "must be an address such as https://ci.example.com/runs/8841"
	case u.Scheme != "https" && u.Scheme != "http":
		return "must begin with https:// or http://"
	case u.User != nil:
		return "must have no user name or password"
	}
	return ""
}

// digestProblem says why s is not a digest, with the remedy for the commonest
// mistake: an image tag.
func digestProblem(s string) string {
	if ValidDigest(s) {
		return ""
	}
	return "must be a digest: sha256: and 64 lower-case hex digits"
}

// decodeTime reads an RFC 3339 time; YAML reads an unquoted one as a timestamp.
func decodeTime(o object, name string) time.Time {
	n := o.value[name]
	if n == nil {
		return time.Time{}
	}
	if n.Kind == yaml.ScalarNode && (n.ShortTag() == yaml.NodeTagString || n.ShortTag() == "!!timestamp") {
		if t, err := time.Parse(time.RFC3339, n.Value); err == nil {
			return t.UTC()
		}
	}
	o.problem(name, "", "must be a time such as 2026-11-21T10:00:00Z, found %s", describe(n))
	return time.Time{}
}

// hexRef takes the hex digits out of a digest or a prefix of one.
func hexRef(ref string) (string, error) {
	digits := strings.TrimPrefix(ref, digestPrefix)
	if !isHex(digits) || len(digits) < 4 || len(digits) > 64 {
		return "", &NotDigestError{Ref: ref}
	}
	return digits, nil
}
