package promotion

import (
	"fmt"
	"regexp"
	"strings"
)

// BranchPrefix is where the head branches of all promotions live.
const BranchPrefix = "sluice/promote/"

// AllComponents is the last element of the branch of a promotion of several
// components at once.
const AllComponents = "all"

// nameFormat is what a name of an environment or a component may be: a DNS
// label, which is safe in a ref and needs no escaping anywhere.
var nameFormat = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// BranchName returns the head branch of the promotion of a component (or
// AllComponents) to an environment.
func BranchName(environment, component string) string {
	return BranchPrefix + environment + "/" + component
}

// ParseBranch splits a head branch into the environment and the component (or
// AllComponents) it promotes; ok is false for any other branch.
func ParseBranch(branch string) (environment, component string, ok bool) {
	rest, found := strings.CutPrefix(branch, BranchPrefix)
	if !found {
		return "", "", false
	}
	environment, component, found = strings.Cut(rest, "/")
	if !found || !nameFormat.MatchString(environment) || !nameFormat.MatchString(component) {
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
