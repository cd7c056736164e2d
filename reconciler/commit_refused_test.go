package reconciler_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// refuse has the branch's newest commit refused, and an older one kept to.
func (b *branch) refuse(err *reconciler.CommitRefusedError) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = nil
	if err != nil {
		b.err = err
	}
}

// commitProblems are the statuses about commits that were refused.
type commitProblems chan reconciler.Status

func (p commitProblems) Report(_ context.Context, s reconciler.Status) {
	if s.Reason == "CommitRefused" {
		p <- s
	}
}

// TestARefusedCommitIsNotAppliedAndTheOneBeforeIsKept: also by a process that has
// seen neither yet.
func TestARefusedCommitIsNotAppliedAndTheOneBeforeIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready(project(f.namespace))
	good := revision(2) // the fixture begins with one
	bad := f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	f.branch.refuse(&reconciler.CommitRefusedError{Revision: bad, Keep: good, Err: errors.New("it is not signed")})
	require.NoError(t, f.api.Delete(t.Context(), f.get("ConfigMap", "api-one")))

	said := make(commitProblems, 10)
	f.engine = f.newEngine(func(c *reconciler.Config) { c.Reporter = said })
	f.run()
	s := <-said
	assert.Equal(t, reconciler.Status{Environment: "production", Revision: bad, State: reconciler.StateFailed, Reason: "CommitRefused", Message: "it is not signed"}, s)
	f.eventually("what was lost is put back as the commit that is kept to says", func() bool { return f.get("ConfigMap", "api-one") != nil })
	assert.Nil(t, f.get("ConfigMap", "api-two"))
	intake := f.engine.Vitals().Environments[0]
	assert.Equal(t, reconciler.Intake{Environment: "production", Revision: good, Problem: "it is not signed"}, intake)

	f.eventually("the Release tells of it", func() bool {
		told := f.release("api").Status.Refused
		return told != nil && *told == v1alpha1.RefusedCommit{Revision: bad, Message: "it is not signed"}
	})
	assert.True(t, f.release("api").Ready(), "what it is about is as ready as before")

	f.branch.refuse(nil)
	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("three")}))
	f.eventually("the next commit is applied", func() bool { return f.get("ConfigMap", "api-three") != nil })
	assert.Nil(t, f.get("ConfigMap", "api-two"))
	assert.Empty(t, f.engine.Vitals().Environments[0].Problem)
	f.eventually("the Release tells no longer of it", func() bool { return f.release("api").Status.Refused == nil })
	assert.Empty(t, said, "it is said once")
}
