package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
)

// What one evaluation may cost, in CEL's own unit: about one for each field that
// is looked at. An honest expression over an object with a hundred conditions
// costs a few thousand.
const maxCost = 100_000

// An expression comes from the repository and sees objects that others write; it
// must not be able to hold the reconciler up. Its cost is counted while it runs,
// but a function is charged for when it has returned, and a value may be far
// larger than it was to make: a list that holds the same list twice, and so on,
// is small in memory and endless to compare. So there is no way to make such
// values:
//
//  1. No macro binds a value to a name but those that go through a list, and none
//     builds a list of anything but members of that list.
//  2. Lists and maps that are written out hold constants only.
//  3. Functions whose result, or work, is the product of their arguments are left
//     out, and patterns are constants.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.OptionalTypes(),
		cel.ClearMacros(), // the optional types' too: they copy their operand
		cel.Macros(cel.HasMacro, cel.AllMacro, cel.ExistsMacro, cel.ExistsOneMacro, cel.FilterMacro),
		ext.Strings(),
		cel.CrossTypeNumericComparisons(true), // JSON's numbers are one kind
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals()),
		cel.Variable("object", cel.DynType),
	)
})

// productive are the functions that are left out.
var productive = []string{"replace", "join", "format", "indexOf", "lastIndexOf", "quote", "strings.quote"}

// program is a compiled expression. Nil is one that is not given: it is false,
// and says nothing.
type program struct {
	text   string
	result *types.Type
	run    cel.Program
}

// compileProblem is why an expression does not compile; lines and columns count
// from 1, 0 is unknown.
type compileProblem struct {
	line, column int
	message      string
}

// cache keeps what was compiled, the problems too: every pass over a release asks
// again. It is emptied when it is full; the next passes fill it.
var cache = struct {
	sync.Mutex
	programs map[cacheKey]cached
}{programs: map[cacheKey]cached{}}

const maxCached = 1000

type cacheKey struct{ text, result string }

type cached struct {
	program *program
	problem *compileProblem
}

func compiled(text string, result *types.Type) (*program, *compileProblem) {
	key := cacheKey{text, result.String()}
	cache.Lock()
	c, ok := cache.programs[key]
	cache.Unlock()
	if ok {
		return c.program, c.problem
	}
	c.program, c.problem = compile(text, result)
	cache.Lock()
	defer cache.Unlock()
	if len(cache.programs) >= maxCached {
		clear(cache.programs)
	}
	cache.programs[key] = c
	return c.program, c.problem
}

// compile is Compile for one expression. A panic of the library is a problem of
// this expression only.
func compile(text string, result *types.Type) (p *program, problem *compileProblem) {
	defer func() {
		if recover() != nil {
			p, problem = nil, &compileProblem{message: "cannot be compiled"}
		}
	}()
	env, err := environment()
	if err != nil {
		return nil, &compileProblem{message: err.Error()}
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		e := issues.Errors()[0]
		return nil, &compileProblem{e.Location.Line(), e.Location.Column() + 1, oneLine(strings.TrimSuffix(e.Message, " (in container '')"))}
	}
	if problem := restrict(checked.NativeRep()); problem != nil {
		return nil, problem
	}
	if given := checked.OutputType(); !given.IsExactType(result) && !given.IsExactType(types.DynType) {
		return nil, &compileProblem{message: fmt.Sprintf("gives %s, where %s is due", given, result)}
	}
	run, err := env.Program(checked, cel.CostTracking(meter{}), cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, &compileProblem{message: oneLine(err.Error())}
	}
	return &program{text: oneLine(text), result: result, run: run}, nil
}

// restrict refuses what the environment cannot be made without.
func restrict(checked *ast.AST) *compileProblem {
	var found *compileProblem
	refuse := func(e ast.Expr, format string, args ...any) {
		if found == nil {
			at := checked.SourceInfo().GetStartLocation(e.ID())
			found = &compileProblem{at.Line(), at.Column() + 1, fmt.Sprintf(format, args...)}
		}
	}
	members := map[string]bool{} // variables of the macros that go through a list
	ast.PreOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			members[e.AsComprehension().IterVar()] = true
		case ast.CallKind:
			name, args := e.AsCall().FunctionName(), e.AsCall().Args()
			if slices.Contains(productive, name) {
				refuse(e, "function %s is not available", name)
			}
			if name == "matches" && args[len(args)-1].Kind() != ast.LiteralKind {
				refuse(e, "the pattern of matches must be a constant")
			}
		case ast.ListKind:
			elements := e.AsList().Elements()
			// The macro filter appends its variable to a list.
			if len(elements) == 1 && elements[0].Kind() == ast.IdentKind && members[elements[0].AsIdent()] {
				return
			}
			if !allConstant(elements) {
				refuse(e, "a list may hold constants only")
			}
		case ast.MapKind, ast.StructKind:
			if e.Kind() == ast.StructKind || e.AsMap().Size() > 0 {
				refuse(e, "maps and messages are not available")
			}
		}
	}))
	return found
}

func allConstant(elements []ast.Expr) bool {
	return !slices.ContainsFunc(elements, func(e ast.Expr) bool {
		return e.Kind() != ast.LiteralKind && (e.Kind() != ast.ListKind || !allConstant(e.AsList().Elements()))
	})
}

// meter counts what calls cost. The library counts by the types of the arguments,
// which are not known of what lies in an object.
type meter struct{}

// CallCost is 1 and a tenth of the length of the texts that a call was given; of
// comparisons, which go into lists and maps, it is the size of the smaller side.
// Functions that cost more than that are left to the library: nil.
func (meter) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	switch function {
	case "contains", "matches":
		return nil
	case "_==_", "_!=_":
		cost := weight(args[0], maxCost)
		cost = weight(args[1], cost)
		return &cost
	case "@in":
		cost := weight(args[1], maxCost)
		return &cost
	}
	cost := uint64(1)
	for _, a := range args {
		if text, ok := a.(types.String); ok {
			cost += uint64(len(text)) / 10
		}
	}
	return &cost
}

// weight is the number of values in a value, at most most.
func weight(v ref.Val, most uint64) uint64 {
	if most <= 1 {
		return most
	}
	sum := uint64(1)
	add := func(v ref.Val) bool {
		sum += weight(v, most-sum)
		return sum < most
	}
	switch v := v.(type) {
	case types.String:
		sum += uint64(len(v)) / 10
	case *types.Optional:
		if v.HasValue() {
			add(v.GetValue())
		}
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True && add(it.Next()); {
		}
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True; {
			if key := it.Next(); !add(key) || !add(v.Get(key)) {
				break
			}
		}
	}
	return min(sum, most)
}

// typeError says that an expression gave something other than what is due. What lies
// in an object has no type until it is looked at.
type typeError struct{ text, given, due string }

func (e *typeError) Error() string {
	return fmt.Sprintf("%s gives %s, where %s is due", e.text, e.given, e.due)
}

// boolean evaluates to true or false; a program that is not given is false.
func (p *program) boolean(ctx context.Context, object map[string]any) (bool, error) {
	value, err := p.evaluate(ctx, object)
	if err != nil || value == nil {
		return false, err
	}
	b, ok := value.Value().(bool)
	if !ok {
		return false, &typeError{p.text, value.Type().TypeName(), "bool"}
	}
	return b, nil
}

// evaluate runs the program over an object; nil without a program. A panic is an
// error: the library turns it into one.
func (p *program) evaluate(ctx context.Context, object map[string]any) (ref.Val, error) {
	if p == nil {
		return nil, nil
	}
	value, _, err := p.run.ContextEval(ctx, map[string]any{"object": object})
	if err != nil {
		return nil, err
	}
	return value, nil
}
