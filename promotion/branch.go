package promotion

import (
	"fmt"
	"regexp"
	"strings"
)

// Where the head branches of pull requests live.
const (
	BranchPrefix  = "sluice/promote/" // of promotions
	TrafficPrefix = "sluice/traffic/" // of changes of traffic
)

// AllComponents is the last element of the branch of a promotion of several
// components at once.
const AllComponents = "all"

// Kind is what a pull request is about. It is a fact of its branch.
type Kind string

// The kinds of pull requests.
const (
	KindPromotion Kind = "promotion"
	KindTraffic   Kind = "traffic"
)

// KindOf returns the kind of the pull request of a branch, "" for any other branch.
func KindOf(branch string) Kind {
	_, _, ok := ParseBranch(branch)
	switch {
	case !ok:
		return ""
	case strings.HasPrefix(branch, TrafficPrefix):
		return KindTraffic
	}
	return KindPromotion
}

// HeadRefs are patterns of the refs that the heads of pull requests have, as
// gitrepo's FetchRefs takes them.
func HeadRefs() []string {
	return []string{headsPrefix + BranchPrefix + "*", headsPrefix + TrafficPrefix + "*"}
}

// nameFormat is what a name of an environment or a component may be: a DNS
// label, which is safe in a ref and needs no escaping anywhere.
var nameFormat = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// BranchName returns the head branch of the promotion of a component (or
// AllComponents) to an environment.
func BranchName(environment, component string) string {
	return BranchPrefix + environment + "/" + component
}

// TrafficBranch returns the head branch of a change of a component's traffic in an
// environment.
func TrafficBranch(environment, component string) string {
	return TrafficPrefix + environment + "/" + component
}

// ParseBranch splits a head branch into the environment and the component (of a
// promotion, AllComponents too) it is about; ok is false for any other branch.
func ParseBranch(branch string) (environment, component string, ok bool) {
	rest, promotes := strings.CutPrefix(branch, BranchPrefix)
	if !promotes {
		if rest, ok = strings.CutPrefix(branch, TrafficPrefix); !ok {
			return "", "", false
		}
	}
	environment, component, ok = strings.Cut(rest, "/")
	if !ok || !nameFormat.MatchString(environment) || !nameFormat.MatchString(component) || !promotes && component == AllComponents {
		return "", "", false
	}
	return environment, component, true
}

// checkName refuses what could not stand in a branch name.
func checkName(kind, name string) error {
	if nameFormat.MatchString(name) {
		return nil
	}
	return &NameError{Kind: kind, Name: name}
}

// NameError is a name that no environment or component can have.
type NameError struct{ Kind, Name string }

func (e *NameError) Error() string { return fmt.Sprintf("%q is not the name of %s", e.Name, e.Kind) }

// Hint says what a name looks like.
func (e *NameError) Hint() string {
	return "names have lower-case letters, digits and dashes, at most 63"
}
