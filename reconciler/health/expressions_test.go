package health_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/internal/mutants"
	"github.com/sluice-dev/sluice/reconciler/health"
)

func rule(ready, failed, message string) envrepo.HealthRule {
	return envrepo.HealthRule{File: "components/api/component.yaml", Group: "postgresql.cnpg.io", Kind: "Cluster",
		Ready: envrepo.Expression{Text: ready, Line: 8}, Failed: envrepo.Expression{Text: failed, Line: 9}, Message: envrepo.Expression{Text: message, Line: 10}}
}

// cluster is an object with these fields beside its name.
func cluster(t testing.TB, fields string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(fields))
	require.NoError(t, err)
	head := `{"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "db", "generation": 2, "managedFields": [{"manager": "me"}]}, `
	o := &unstructured.Unstructured{}
	require.NoError(t, o.UnmarshalJSON([]byte(head+strings.TrimPrefix(string(data), "{"))))
	return o
}

func TestExpressionsJudge(t *testing.T) {
	const healthy = `object.status.phase == "healthy"`
	for _, test := range []struct {
		name   string
		rule   envrepo.HealthRule
		object string
		want   health.State
	}{
		{"ready", rule(healthy, "", ""), "status: {phase: healthy}", health.State{Status: health.Current}},
		{"not ready", rule(healthy, "", ""), "status: {phase: starting}",
			health.State{Status: health.Progressing, Message: `not ready: object.status.phase == "healthy" is false`}},
		{"a field that is not there yet", rule(healthy, "", ""), "spec: {}",
			health.State{Status: health.Progressing, Message: "not ready: no such key: status"}},
		{"nor the field below", rule(healthy, "", ""), "status: {}",
			health.State{Status: health.Progressing, Message: "not ready: no such key: phase"}},
		{"its message", rule(healthy, "", "object.status.?reason.orValue('no reason')"), "status: {phase: starting, reason: \"waits\\nfor a volume\"}",
			health.State{Status: health.Progressing, Message: "waits for a volume"}},
		{"its message, with a default", rule(healthy, "", "object.status.?reason.orValue('no reason')"), "status: {phase: starting}",
			health.State{Status: health.Progressing, Message: "no reason"}},
		{"a message that fails", rule(healthy, "", "object.status.reason"), "status: {phase: starting}",
			health.State{Status: health.Progressing, Message: `not ready: object.status.phase == "healthy" is false`}},
		{"a message that is no text", rule(healthy, "", "object.status.reason"), "status: {phase: starting, reason: 3}",
			health.State{Status: health.Progressing, Message: `not ready: object.status.phase == "healthy" is false`}},
		{"failed", rule(healthy, "object.status.phase == 'lost'", "'lost: ' + object.metadata.name"), "status: {phase: lost}",
			health.State{Status: health.Failed, Message: "lost: db"}},
		{"failed, without a message", rule(healthy, "object.status.phase == 'lost'", ""), "status: {phase: lost}",
			health.State{Status: health.Failed, Message: "failed: object.status.phase == 'lost'"}},
		{"failed goes before ready", rule("true", "object.status.phase == 'lost'", ""), "status: {phase: lost}",
			health.State{Status: health.Failed, Message: "failed: object.status.phase == 'lost'"}},
		{"failed that cannot be told is not", rule("true", "object.status.phase == 'lost'", ""), "spec: {}", health.State{Status: health.Current}},
		{"conditions", rule("object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')", "", ""),
			"status: {conditions: [{type: Synced, status: 'False'}, {type: Ready, status: 'True'}]}", health.State{Status: health.Current}},
		{"the message of a condition", rule("false", "", "object.status.conditions.filter(c, c.type == 'Ready')[0].message"),
			"status: {conditions: [{type: Ready, message: no quota}]}", health.State{Status: health.Progressing, Message: "no quota"}},
		{"numbers are one kind", rule("object.status.ready >= object.spec.share * 2.0 && object.status.ready > 1.5", "", ""),
			"{spec: {share: 0.5}, status: {ready: 2}}", health.State{Status: health.Current}},
		{"not a boolean after all", rule("object.status.phase", "", ""), "status: {phase: healthy}",
			health.State{Status: health.Progressing, Message: "not ready: object.status.phase gives string, where bool is due"}},
		{"nor with a message that says otherwise", rule("object.status.phase", "", "object.status.phase"), "status: {phase: healthy}",
			health.State{Status: health.Progressing, Message: "not ready: object.status.phase gives string, where bool is due"}},
		{"failed is no boolean", rule("true", "object.status.phase", "'well'"), "status: {phase: healthy}",
			health.State{Status: health.Progressing, Message: "not ready: failed: object.status.phase gives string, where bool is due"}},
		{"failed is not there yet", rule("true", "object.status.lost", ""), "status: {lost: null}", health.State{Status: health.Current}},
		{"not looked at since it was changed", rule("true", "true", ""), "status: {observedGeneration: 1}",
			health.State{Status: health.Progressing, Message: "its controller has not taken the last change in yet"}},
		{"looked at", rule("true", "", ""), "status: {observedGeneration: 2}", health.State{Status: health.Current}},
		{"managed fields are not seen", rule("has(object.metadata.managedFields)", "", ""), "spec: {}",
			health.State{Status: health.Progressing, Message: "not ready: has(object.metadata.managedFields) is false"}},
		{"in several lines", rule("object.status.phase\n  == 'healthy'\n", "", ""), "status: {phase: starting}",
			health.State{Status: health.Progressing, Message: "not ready: object.status.phase == 'healthy' is false"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, err := health.Compile([]envrepo.HealthRule{test.rule})
			require.NoError(t, err)
			object := cluster(t, test.object)
			before := object.DeepCopy()
			assert.Equal(t, test.want, e.Of(object))
			assert.Equal(t, before, object, "judging changes nothing")
			assert.Equal(t, test.want.Status == health.Current, e.Serving(object))
		})
	}
}

func TestExpressionsAndKstatus(t *testing.T) {
	e, err := health.Compile([]envrepo.HealthRule{
		rule("true", "", ""),
		{Kind: "Service", Ready: envrepo.Expression{Text: "has(object.status.loadBalancer.ingress)"}},
	})
	require.NoError(t, err)
	deleted := cluster(t, "spec: {}")
	require.NoError(t, unstructured.SetNestedField(deleted.Object, "2026-11-21T10:00:00Z", "metadata", "deletionTimestamp"))
	assert.Equal(t, health.State{Message: "is being deleted"}, e.Of(deleted))
	assert.Equal(t, health.State{Message: "does not exist yet"}, e.Of(nil))

	stalled := cluster(t, "status: {conditions: [{type: Stalled, status: 'True', message: gone}]}")
	assert.Equal(t, health.Failed, health.Of(stalled).Status)
	assert.Equal(t, health.Current, e.Of(stalled).Status, "an expression stands for all that kstatus says")
	stalled.SetKind("Backup")
	assert.Equal(t, health.Of(stalled), e.Of(stalled), "another kind keeps kstatus' judgement")
	var none *health.Expressions
	stalled.SetKind("Cluster")
	assert.Equal(t, health.Of(stalled), none.Of(stalled))
	assert.Equal(t, health.Serving(stalled), none.Serving(stalled))

	service := schema.GroupKind{Kind: "Service"}
	assert.False(t, none.Judged(service))
	assert.True(t, e.Judged(service), "an inert kind with an expression is not inert any more")
	assert.True(t, e.Has(service))
	assert.False(t, e.Has(schema.GroupKind{Group: "apps", Kind: "Deployment"}))
	assert.True(t, e.Judged(schema.GroupKind{Group: "apps", Kind: "Deployment"}))
}

func TestExpressionsThatAreRefused(t *testing.T) {
	const at = "components/api/component.yaml:"
	for _, test := range []struct {
		name string
		rule envrepo.HealthRule
		want string
	}{
		{"syntax", rule("object.status.phase = 'x'", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: Syntax error: token recognition error at: '= ' (at character 21 of the expression's line)"},
		{"a misspelt variable", rule("true", "objct.status.failed", ""), at + "9: health of Cluster.postgresql.cnpg.io: failed: undeclared reference to 'objct' (at character 1 of the expression's line)"},
		{"in the second line", rule("true &&\n  objct.ok\n", "", ""), at + "9: health of Cluster.postgresql.cnpg.io: ready: undeclared reference to 'objct' (at character 3 of the expression's line)"},
		{"not a boolean", rule("'yes'", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: gives string, where bool is due"},
		{"not a text", rule("true", "", "1 + 1"), at + "10: health of Cluster.postgresql.cnpg.io: message: gives int, where string is due"},
		{"a bad pattern", rule("object.a.matches('(')", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: invalid matches argument (at character 18 of the expression's line)"},
		{"a pattern that is not constant", rule("object.a.matches(object.b)", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: the pattern of matches must be a constant (at character 17 of the expression's line)"},
		{"a product of strings", rule("object.a.replace('', object.a) == ''", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: function replace is not available (at character 17 of the expression's line)"},
		{"a list of lists", rule("[object, object] == []", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: a list may hold constants only (at character 1 of the expression's line)"},
		{"a map", rule("{'a': object}.a.ok", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: maps and messages are not available (at character 1 of the expression's line)"},
		{"a message", rule("google.protobuf.ListValue{} == object", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: maps and messages are not available (at character 26 of the expression's line)"},
		{"a macro that binds", rule("optional.of(object).optMap(a, a.ok).value()", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: undeclared reference to 'optMap' (at character 27 of the expression's line)"},
		{"a macro that builds lists", rule("object.l.map(a, object.l) == object", "", ""), at + "8: health of Cluster.postgresql.cnpg.io: ready: undeclared reference to 'map' (at character 13 of the expression's line)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, err := health.Compile([]envrepo.HealthRule{test.rule})
			require.EqualError(t, err, test.want)
			assert.Nil(t, e)
			var problem *health.ExpressionError
			require.True(t, errors.As(err, &problem))
			assert.Contains(t, problem.Hint(), "docs/guides/readiness.md")
		})
	}
	t.Run("all of them are told", func(t *testing.T) {
		_, err := health.Compile([]envrepo.HealthRule{rule("a", "b", "c")})
		require.Error(t, err)
		assert.Equal(t, 3, strings.Count(err.Error(), "undeclared reference"))
	})
}

func TestWhatExpressionsMayUse(t *testing.T) {
	for _, text := range []string{
		"object.status.phase in ['a', 'b'] || object.x == [1, -2, 3] || object.y == []",
		"object.metadata.name.lowerAscii().startsWith('d') && object.metadata.name.matches('^d[a-z]$')",
		"timestamp('2026-11-21T10:00:00Z') < timestamp('2026-11-21T10:00:01Z')",
		"object.?status.?phase.orValue('x') == 'x' && object.metadata.?labels.hasValue() == false",
		"has(object.metadata.name) ? object.metadata.generation == 2 : false",
		"[1, 2].all(i, i > 0) && [1, 2].exists_one(i, i == 2) && [1, 2, 3].filter(i, i > 1).size() == 2",
		"'a,b'.split(',')[1] == 'b' && 'abc'.substring(1) == 'bc' && ' a '.trim() == 'a'",
	} {
		e, err := health.Compile([]envrepo.HealthRule{rule(text, "", "")})
		require.NoError(t, err, text)
		if !strings.Contains(text, "object.status.phase") {
			assert.Equal(t, health.State{Status: health.Current}, e.Of(cluster(t, "spec: {}")), text)
		}
	}
}

// An expression over a hostile object ends, and is not true.
func TestExpressionsCostLittle(t *testing.T) {
	items := make([]any, 20_000)
	for i := range items {
		items[i] = map[string]any{"n": int64(i), "s": strings.Repeat("x", 100)}
	}
	object := cluster(t, "spec: {}")
	object.Object["l"] = items
	object.Object["s"] = strings.Repeat("a", 1<<20)
	for _, text := range []string{
		"object.l.all(a, object.l.all(b, object.l.all(c, a.n + b.n + c.n >= 0)))",
		"object.l == object.l",
		"[1, 2, 3].all(a, optional.of(object.l) == optional.of(object.l))",
		"[1, 2, 3, 4].all(a, object.s.contains('b') || object.s.matches('(a+)+b'))",
		"object.l.filter(a, object.l.filter(b, b.n > a.n).size() > 3).size() > 0",
		"object.l.all(a, a in object.l)",
		"object.l + object.l == object.l + object.l",
		"(" + strings.Repeat("object.s + ", 100) + "object.s).size() > 0",
	} {
		e, err := health.Compile([]envrepo.HealthRule{rule(text, "", "")})
		require.NoError(t, err, text)
		state := e.Of(object)
		assert.Equal(t, health.Progressing, state.Status, text)
		assert.Regexp(t, "cost limit exceeded|interrupted", state.Message, text) // by time on a slow machine
	}
}

// A compiled expression is found again, and a thousand others do not keep it from
// being compiled anew.
func TestManyExpressions(t *testing.T) {
	for i := range 2100 {
		e, err := health.Compile([]envrepo.HealthRule{rule(fmt.Sprintf("%d == %d", i/2, i/2), "", "")})
		require.NoError(t, err)
		require.Equal(t, health.Current, e.Of(cluster(t, "spec: {}")).Status)
	}
}

func FuzzExpressions(ff *testing.F) {
	f := mutants.New(ff)
	for _, text := range []string{"object.status.ready", "object.?a.b.orValue(true)", "object.l.exists(c, c == 'x')", "[1].filter(a, a in [1])", "object.s.matches('a*')", "{", "\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 2048 {
			return
		}
		e, err := health.Compile([]envrepo.HealthRule{rule(text, "", text)})
		if text == "" || err != nil {
			return
		}
		state := e.Of(cluster(t, "{s: aaa, l: [x, y], status: {ready: true}}"))
		if (state.Message == "") != (state.Status == health.Current) {
			t.Fatalf("%q: %+v", text, state)
		}
	})
}

// What is read of a Secret does not depend on how it came here, and no part of a value
// gets into a message.
func TestExpressionsSeeNoValueOfASecret(t *testing.T) {
	r := rule("false", "", "'it says ' + object.data.token.substring(0, 12)")
	r.Group, r.Kind = "", "Secret"
	e, err := health.Compile([]envrepo.HealthRule{r})
	require.NoError(t, err)
	for _, field := range []string{"data", "stringData"} {
		secret := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret",
			"metadata": map[string]any{"name": "s"}, field: map[string]any{"token": "aHVudGVyMi1hbmQtbW9yZQ=="}}}
		assert.Equal(t, health.State{Status: health.Progressing, Message: "not ready: false is false"}, e.Of(secret))
	}
}
