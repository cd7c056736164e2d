package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/cel-go/common/types"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/envrepo"
)

// Expressions judge the kinds of which a component says itself when they are
// ready, and all others as Of does. Compile makes them; nil has none.
type Expressions struct {
	rules map[schema.GroupKind]rule
}

// rule is one kind's, compiled; failed and message may be nil.
type rule struct {
	ready, failed, message *program
}

// Compile compiles the rules of a component. Its error joins an *ExpressionError
// for each expression that is not CEL, or gives something other than what it
// should.
func Compile(rules []envrepo.HealthRule) (*Expressions, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	e := &Expressions{rules: make(map[schema.GroupKind]rule, len(rules))}
	var problems []error
	for _, r := range rules {
		kind := schema.GroupKind{Group: r.Group, Kind: r.Kind}
		compile := func(field string, x envrepo.Expression, result *types.Type) *program {
			if x.Text == "" {
				return nil
			}
			p, problem := compiled(x.Text, result)
			if problem != nil {
				problems = append(problems, &ExpressionError{File: r.File, Line: x.Line + max(0, problem.line-1), Kind: kind, Field: field,
					Column: problem.column, Message: problem.message})
			}
			return p
		}
		e.rules[kind] = rule{
			ready:   compile("ready", r.Ready, types.BoolType),
			failed:  compile("failed", r.Failed, types.BoolType),
			message: compile("message", r.Message, types.StringType),
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return e, nil
}

// ExpressionError says that an expression of component.yaml cannot be used.
type ExpressionError struct {
	File    string
	Line    int
	Kind    schema.GroupKind
	Field   string // ready, failed or message
	Column  int    // in the line of the expression, from 1; 0 when it is about all of it
	Message string
}

func (e *ExpressionError) Error() string {
	where := ""
	if e.Column > 0 {
		where = fmt.Sprintf(" (at character %d of the expression's line)", e.Column)
	}
	return fmt.Sprintf("%s:%d: health of %s: %s: %s%s", e.File, e.Line, e.Kind, e.Field, e.Message, where)
}

// Hint says what to do about it.
func (e *ExpressionError) Hint() string {
	return "an expression is CEL over the variable object; what it may use stands in docs/guides/readiness.md"
}

// Has reports whether objects of a kind are judged by an expression.
func (e *Expressions) Has(kind schema.GroupKind) bool {
	if e == nil {
		return false
	}
	_, ok := e.rules[kind]
	return ok
}

// Kinds are the kinds that are judged by expressions.
func (e *Expressions) Kinds() map[schema.GroupKind]bool {
	if e == nil {
		return nil
	}
	kinds := make(map[schema.GroupKind]bool, len(e.rules))
	for kind := range e.rules {
		kinds[kind] = true
	}
	return kinds
}

// Judged reports whether objects of a kind can be anything but well.
func (e *Expressions) Judged(kind schema.GroupKind) bool { return e.Has(kind) || Judged(kind) }

// Of judges a live object: by the expressions for its kind, which then stand for
// all that kstatus says, otherwise as the function Of.
//
// What is being deleted, and what its controller reports to have not looked at
// since it was changed, is not ready whatever the expressions say: they would
// judge what was before.
func (e *Expressions) Of(object *unstructured.Unstructured) State {
	if object == nil {
		return Of(nil)
	}
	kind := object.GroupVersionKind().GroupKind()
	if !e.Has(kind) {
		return Of(object)
	}
	if object.GetDeletionTimestamp() != nil {
		return State{Progressing, "is being deleted"}
	}
	observed, found, _ := unstructured.NestedInt64(object.Object, "status", "observedGeneration")
	if found && observed < object.GetGeneration() {
		return State{Progressing, unobserved}
	}
	return e.rules[kind].judge(visible(object))
}

// Serving is the function Serving, but for kinds with expressions: those serve
// when they are ready.
func (e *Expressions) Serving(object *unstructured.Unstructured) bool {
	if object != nil && e.Has(object.GroupVersionKind().GroupKind()) {
		return e.Of(object).Status == Current
	}
	return Serving(object)
}

// maxEvaluation bounds one evaluation in time. Its cost is what should end it: this
// is for what costs more than it is counted for.
const maxEvaluation = time.Second

// judge evaluates failed before ready, and message only for what is not ready. An
// expression that fails, most often because a field is not there yet, is not
// true. One that gives another type is a mistake: the object is not ready then, so
// that a failed which can never be true is not overlooked.
func (r rule) judge(object map[string]any) State {
	ctx, cancel := context.WithTimeout(context.Background(), maxEvaluation)
	defer cancel()
	failed, err := r.failed.boolean(ctx, object)
	if mistake := (*typeError)(nil); errors.As(err, &mistake) && mistake.given != types.NullType.TypeName() {
		return State{Progressing, clip("not ready: failed: " + err.Error())}
	}
	if err == nil && failed {
		return State{Failed, cmp.Or(r.say(ctx, object), clip("failed: "+r.failed.text))}
	}
	ready, err := r.ready.boolean(ctx, object)
	switch mistake := (*typeError)(nil); {
	case errors.As(err, &mistake):
		return State{Progressing, clip("not ready: " + err.Error())}
	case err != nil:
		return State{Progressing, cmp.Or(r.say(ctx, object), clip("not ready: "+err.Error()))}
	case !ready:
		return State{Progressing, cmp.Or(r.say(ctx, object), clip("not ready: "+r.ready.text+" is false"))}
	}
	return State{Status: Current}
}

// say is the message of the object's own rule, in one line; "" without one.
func (r rule) say(ctx context.Context, object map[string]any) string {
	value, err := r.message.evaluate(ctx, object)
	if err != nil || value == nil {
		return ""
	}
	text, _ := value.Value().(string)
	return clip(text)
}

// visible is what expressions see of an object: all but its managed fields, which
// are most of its metadata and not what it is. Of a Secret that is its metadata alone,
// wherever the object comes from: what an expression makes of a value could not be
// recognised in a message.
func visible(object *unstructured.Unstructured) map[string]any {
	content := object.Object
	metadata, _ := content["metadata"].(map[string]any)
	if object.GroupVersionKind().GroupKind() == (schema.GroupKind{Kind: "Secret"}) {
		content = map[string]any{"apiVersion": content["apiVersion"], "kind": content["kind"], "metadata": metadata}
	}
	if metadata["managedFields"] != nil {
		content, metadata = maps.Clone(content), maps.Clone(metadata)
		delete(metadata, "managedFields")
		content["metadata"] = metadata
	}
	return content
}
