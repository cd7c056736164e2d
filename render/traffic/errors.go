package traffic

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/envrepo"
)

// TrafficError says that a Traffic cannot be meant for the release.
type TrafficError struct {
	Component string
	Reason    string
}

func (e *TrafficError) Error() string {
	return fmt.Sprintf("traffic of component %q: %s", e.Component, e.Reason)
}

// Hint tells what to do.
func (e *TrafficError) Hint() string {
	return "correct traffic.yaml: whole weights from 0 to 100 that sum to 100, each for a tag with an overlay"
}

// DirectError says that a route of the release names a tag's Service itself, so
// that the weights would not govern it.
type DirectError struct {
	Object    string // kind namespace/name
	Field     string // path of the reference
	Service   string
	Component string
	Tag       string
}

func (e *DirectError) Error() string {
	return fmt.Sprintf("%s: %s names Service %s of tag %s, which ignores the weights", e.Object, e.Field, e.Service, e.Tag)
}

// Hint tells what to do.
func (e *DirectError) Hint() string {
	return fmt.Sprintf("name Service %s there and set weights in traffic.yaml", e.Component)
}

// UnclearError says that a route may mean the component's Service, in a form of
// which that is not sure. It is not guessed.
type UnclearError struct {
	Object  string // kind namespace/name
	Field   string // path of the reference
	Service string
	Reason  string
}

func (e *UnclearError) Error() string {
	return fmt.Sprintf("%s: %s may mean Service %s: %s", e.Object, e.Field, e.Service, e.Reason)
}

// Hint tells what to do.
func (e *UnclearError) Hint() string {
	return fmt.Sprintf("write the reference so that it names Service %s and nothing else can be meant", e.Service)
}

// SubsetError says that a route names a subset of the component's Service that not
// every tag is known to have.
type SubsetError struct {
	Object    string // kind namespace/name
	Field     string // path of the reference
	Component string
	Subset    string
	Reason    string
	Remedy    string
}

func (e *SubsetError) Error() string {
	return fmt.Sprintf("%s: %s names subset %q of Service %s: %s", e.Object, e.Field, e.Subset, e.Component, e.Reason)
}

// Hint tells what to do.
func (e *SubsetError) Hint() string { return e.Remedy }

// TakenError says that the release has an object of its own where the transform
// would write one.
type TakenError struct {
	Object string // kind namespace/name of what would be written
	For    string // of the object that needs it
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s: %s would be written for it, which the release declares itself", e.For, e.Object)
}

// Hint tells what to do.
func (e *TakenError) Hint() string { return "give the release's own object another name" }

// UnsplitError says that no route of the release can follow weights of several tags.
type UnsplitError struct {
	Object    string // kind namespace/name of the route that there is
	Field     string // path of its reference
	Kind      string
	Component string
	Tag       string // the one that would get everything
}

func (e *UnsplitError) Error() string {
	return fmt.Sprintf("%s: %s names Service %s, and no weights can be written into kind %s: all requests would go to tag %s", e.Object, e.Field, e.Component, e.Kind, e.Tag)
}

// Hint tells what to do instead.
func (e *UnsplitError) Hint() string {
	return fmt.Sprintf("give all traffic to one tag (sluice traffic promote), or route to Service %s with a kind that has weights (%s)", e.Component, withWeights)
}

// LimitError says that an object would pass a limit of the API it belongs to.
type LimitError struct {
	API string // "the Gateway API"

	Object string // kind namespace/name
	Field  string // path of what is too large or too long
	Value  int64  // what would come out
	Limit  int64
	What   string // what the value counts: "weight of Service api-blue", "backendRefs"
	Remedy string
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %s: %s would be %d, %s allows %d", e.Object, e.Field, e.What, e.Value, e.API, e.Limit)
}

// Hint tells what to do.
func (e *LimitError) Hint() string { return e.Remedy }

// MalformedError says that part of an object does not have the shape that its
// kind demands.
type MalformedError struct {
	Object string // kind namespace/name
	Field  string
	Want   string // "a list", "a whole number from 0 to 1000000"
}

func (e *MalformedError) Error() string {
	return fmt.Sprintf("%s: %s is not %s", e.Object, e.Field, e.Want)
}

// Hint tells what to do.
func (e *MalformedError) Hint() string {
	return "correct the object; `kubectl explain` shows the fields of its kind"
}

// MirrorError says that a mirror is refused, and why. The weights are not to
// blame: without the mirror the same Transform may succeed.
type MirrorError struct {
	Component   string
	Object      string // kind namespace/name; "" when no route is at fault
	Field       string // path of the rule; "" with Object
	Tag         string
	Beside      []envrepo.Weight // further mirrors that are refused with it
	Reason      string
	Alternative string
}

func (e *MirrorError) Error() string {
	if len(e.Beside) == 0 {
		return fmt.Sprintf("%smirror to tag %s of component %s is refused: %s", place(e.Object, e.Field), e.Tag, e.Component, e.Reason)
	}
	tags := e.Tag
	for i, m := range e.Beside {
		if i == len(e.Beside)-1 {
			tags += " and " + m.Tag
		} else {
			tags += ", " + m.Tag
		}
	}
	return fmt.Sprintf("%smirrors to tags %s of component %s are refused: %s", place(e.Object, e.Field), tags, e.Component, e.Reason)
}

// Hint tells what to do instead.
func (e *MirrorError) Hint() string { return e.Alternative }

// UnknownSupportError says that a mirror is held back because it is not known
// whether the gateway can mirror by percent.
type UnknownSupportError struct {
	Component string
	Object    string
	Field     string
	Tag       string
	Class     string // GatewayClass, "" when that is unknown too
	Missing   string // what could not be read and why; "" when that is not known
}

func (e *UnknownSupportError) Error() string {
	missing := e.Missing
	switch {
	case missing != "":
	case e.Class != "":
		missing = fmt.Sprintf("GatewayClass %s could not be read", e.Class)
	default:
		missing = "the GatewayClass of its gateway could not be read"
	}
	return fmt.Sprintf("%smirror to tag %s of component %s is held back: %s, so its support for percentage mirrors is unknown",
		place(e.Object, e.Field), e.Tag, e.Component, missing)
}

// Hint tells what to do.
func (e *UnknownSupportError) Hint() string {
	return "check that the route's Gateway and GatewayClass exist and that Sluice may read them, or remove the mirror from traffic.yaml"
}

// describe names an object in messages: kind namespace/name. Names that no API
// server would take are quoted, so that they cannot steer a terminal.
func describe(object *unstructured.Unstructured) string {
	name := object.GetName()
	if namespace := object.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	name = object.GetKind() + " " + name
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

func place(object, field string) string {
	if object == "" {
		return ""
	}
	return object + ": " + field + ": "
}

// quoted formats one name that a user chose.
func quoted(format, name string) string { return fmt.Sprintf(format, fmt.Sprintf("%q", name)) }
