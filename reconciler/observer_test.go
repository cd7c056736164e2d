package reconciler_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/reconciler"
)

// tally is an Observer that keeps what it is told.
type tally struct {
	mu        sync.Mutex
	fetches   int
	passes    []reconciler.PassTiming
	corrected []string
	applied   map[reconciler.Key][]time.Duration
}

func (o *tally) into(c *reconciler.Config) { c.Observer = o }

func (o *tally) Fetched(reconciler.Look) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fetches++
}

func (o *tally) Passed(p reconciler.PassTiming) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.passes = append(o.passes, p)
}

func (o *tally) Corrected(release reconciler.Key, kind string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.corrected = append(o.corrected, release.String()+" "+kind)
}

func (o *tally) Applied(release reconciler.Key, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.applied[release] = append(o.applied[release], took)
}

func (o *tally) locked(look func() bool) func() bool {
	return func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return look()
	}
}

func TestTheObserverIsToldOfEveryCommitOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := &tally{applied: map[reconciler.Key][]time.Duration{}}
	f.engine = f.newEngine(o.into)
	api := reconciler.Key{Environment: "production", Release: "api"}
	f.run()
	f.eventually("api is ready", func() bool { r := f.release("api"); return r != nil && r.Ready() })
	f.eventually("its passes are told of", o.locked(func() bool {
		return len(o.passes) > 0 && slices.ContainsFunc(o.passes[0].Stages, func(s reconciler.StageTiming) bool { return s.Stage == reconciler.StageApply && s.Took > 0 })
	}))
	require.True(t, o.locked(func() bool { return len(o.applied) == 0 && o.fetches > 0 && len(o.corrected) == 0 })(),
		"what was to do at the start answers no commit")

	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	f.eventually("the commit is applied", o.locked(func() bool { return len(o.applied[api]) == 1 }))
	require.Equal(t, revision(2), f.release("api").Status.LastAppliedRevision)

	require.NoError(t, f.api.Delete(context.Background(), f.get("ConfigMap", "api-two"), client.GracePeriodSeconds(0)))
	f.eventually("drift is corrected", o.locked(func() bool { return len(o.corrected) == 1 }))
	f.branch.push(two(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	web := reconciler.Key{Environment: "production", Release: "web"}
	f.eventually("a new release counts", o.locked(func() bool { return len(o.applied[web]) == 1 }))
	f.branch.push(project(f.namespace).with(files{"environments/production/api/config.yaml": config("two")}))
	f.eventually("and so does one that leaves", o.locked(func() bool { return len(o.applied[web]) == 2 }))

	o.mu.Lock()
	defer o.mu.Unlock()
	assert.Equal(t, []string{"production/api ConfigMap"}, o.corrected)
	assert.Len(t, o.applied[api], 1, "a commit that does not change a release is not counted for it")
	for _, p := range o.passes {
		var sum time.Duration
		for _, s := range p.Stages {
			assert.NotContains(t, []reconciler.PassStage{"", reconciler.StageWait}, s.Stage)
			assert.Equal(t, sum, s.Began.Sub(p.Began), "one stage after the other")
			sum += s.Took
		}
		assert.Equal(t, p.Took, sum)
		assert.Equal(t, p.Outcome == reconciler.OutcomeSuperseded, p.Reason == "")
		assert.False(t, p.Arrived && p.Seen.IsZero())
	}
	arrived := slices.DeleteFunc(slices.Clone(o.passes), func(p reconciler.PassTiming) bool { return !p.Arrived })
	require.Len(t, arrived, 3)
	assert.Equal(t, []string{revision(2), revision(3), revision(4)}, []string{arrived[0].Revision, arrived[1].Revision, arrived[2].Revision})
}
