package envrepo

import (
	"regexp"
	"strings"
)

const (
	digestPrefix = "sha256:"
	idLength     = 12
	maxLabel     = 63 // of a DNS label, and so of the name of a Service
)

var (
	labelPattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	keyPattern    = regexp.MustCompile(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`)
	kindPattern   = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	wordPattern   = regexp.MustCompile(`^[A-Za-z0-9][-._/A-Za-z0-9]*$`)
	// An image name as the distribution reference grammar has it, without tag and digest.
	imagePattern = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[-a-zA-Z0-9.]*[a-zA-Z0-9])?(?::[0-9]{1,5})?/)?` +
		`[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
)

// ValidDigest reports whether s is a whole image digest, sha256:<64 hex digits>.
func ValidDigest(s string) bool { return digestPattern.MatchString(s) }

// ShortDigest returns the first 12 hex digits of a digest: the name of its
// build. Anything that is not a digest comes back as it is.
func ShortDigest(digest string) string {
	if !ValidDigest(digest) {
		return digest
	}
	return digest[len(digestPrefix) : len(digestPrefix)+idLength]
}

// ID is the build's name: the first 12 hex digits of its digest.
func (b Build) ID() string { return ShortDigest(b.Digest) }

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// labelProblem says why s is not a DNS label, "" when it is one.
func labelProblem(s string) string {
	switch {
	case s == "":
		return "must not be empty"
	case len(s) > maxLabel:
		return "must have at most 63 characters"
	case !labelPattern.MatchString(s):
		return "must be a DNS label: lower-case letters, digits and -, starting and ending with a letter or digit"
	}
	return ""
}

// namespaceProblem says why s cannot be an environment's namespace. Those of
// Kubernetes itself are refused: an environment writes a NetworkPolicy and Pod
// Security labels, which would cut the cluster off.
func namespaceProblem(s string) string {
	if strings.HasPrefix(s, "kube-") {
		return "is a namespace of Kubernetes itself, not one for an environment"
	}
	return labelProblem(s)
}

// allComponents stands for several components in the names of branches.
const allComponents = "all"

// componentNameProblem says why s cannot name a component: its Service carries
// the name, and a Service's must start with a letter.
func componentNameProblem(s string) string {
	switch problem := labelProblem(s); {
	case problem != "":
		return problem
	case s == EnvironmentRelease:
		return "is reserved for the environment's own objects"
	case s == allComponents:
		return "is reserved: a promotion of several components is named so"
	case s[0] >= '0' && s[0] <= '9':
		return "must start with a letter: the name of a Service does"
	}
	return ""
}

// tagNameProblem says why s cannot name a tag of the component.
func tagNameProblem(component, s string) string {
	switch problem := labelProblem(s); {
	case problem != "":
		return problem
	case s == "base" || s == "shared":
		return "is reserved: that folder holds what the tags have in common"
	case len(component)+1+len(s) > maxLabel:
		return "is too long: the name of the Service " + component + "-" + s + " would exceed 63 characters"
	}
	return ""
}

// imageProblem says why s cannot be the name of an image that overlays pin,
// with a hint.
func imageProblem(s string) (problem, hint string) {
	switch {
	case strings.Contains(s, "@"):
		return "must be an image name without digest", "write the name alone: the overlays pin the digest"
	case strings.Contains(s[strings.LastIndex(s, "/")+1:], ":"):
		return "must be an image name without tag", "write the name alone: the overlays pin the digest"
	case len(s) > 255 || !imagePattern.MatchString(s):
		return "must be an image name such as registry.example.com/shop/api", ""
	}
	return "", ""
}
