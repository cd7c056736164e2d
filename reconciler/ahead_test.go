package reconciler

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/render"
)

// row is what an ahead has rendered, of releases that take so long.
type row struct {
	ahead
	all   []*release
	names []string
}

func newRow(t *testing.T, n int) *row {
	r := &row{}
	for i := range n {
		r.all = append(r.all, newReleaseMemory(Key{"production", fmt.Sprint(i)}))
	}
	r.expect(r.all)
	t.Cleanup(r.run(context.Background()))
	return r
}

func (r *row) render(takes time.Duration) func(context.Context, *release) {
	return func(_ context.Context, rel *release) {
		time.Sleep(takes) // in a bubble
		rel.keepRendered("", &render.Result{}, time.Time{})
		r.names = append(r.names, rel.key.Release)
	}
}

func TestARowIsInTheOrderOfTheQueueAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRow(t, mostAhead+10)
		take := func(numbers ...int) {
			for _, n := range numbers {
				r.take(context.Background(), r.all[n], "")
			}
		}
		row := func() []string {
			r.names = nil
			r.row("production", r.render(0))
			r.rows.Wait()
			return r.names
		}
		take(0, 2)
		first := row()
		assert.Len(t, first, mostAhead)
		assert.Equal(t, []string{"1", "3", "4"}, first[:3], "those taken are with their own passes")
		assert.Empty(t, row(), "so many are ready that nobody has taken")
		take(1, 3)
		r.all[4].dropRendered()
		assert.Len(t, row(), 3, "for those that are taken, and one that did not render or has left")
		r.expect(append(r.all[10:12:12], r.all[10]))
		assert.Equal(t, []string{fmt.Sprint(mostAhead + 5), fmt.Sprint(mostAhead + 6)}, row(), "two of those that are ready are to be rendered anew")
		other := newReleaseMemory(Key{"staging", "other"})
		r.expect([]*release{other})
		for n := range r.all {
			take(n)
		}
		assert.Empty(t, row(), "nothing is left but what another environment has")
		assert.Equal(t, []*release{other}, r.due)
	})
}

func TestARowEndsWhereRendersTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRow(t, mostAhead)
		r.row("production", r.render(aheadFor/2))
		r.row("production", r.render(0)) // is not a second one
		r.rows.Wait()
		assert.Equal(t, []string{"0", "1"}, r.names)
	})
}

func TestWhatARowIsAtIsWaitedForAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRow(t, 3)
		began := time.Now()
		r.row("production", r.render(time.Minute))
		synctest.Wait()
		r.take(context.Background(), r.all[2], "")
		assert.Zero(t, time.Since(began), "its turn is not waited for")
		r.take(context.Background(), r.all[0], "newer")
		assert.Zero(t, time.Since(began), "a newer commit does not wait for what an older one wanted")
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r.take(soon, r.all[0], "")
		assert.Equal(t, time.Second, time.Since(began))
		r.take(context.Background(), r.all[0], "")
		assert.Equal(t, time.Minute, time.Since(began))
	})
}

func TestNoRowWithoutPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &row{}
		all := []*release{newReleaseMemory(Key{"production", "a"}), newReleaseMemory(Key{"production", "b"})}
		r.expect(all)
		r.row("production", r.render(0))
		r.rows.Wait()
		assert.Empty(t, r.names)
		end := r.run(context.Background())
		began := time.Now()
		r.row("production", func(ctx context.Context, _ *release) {
			<-ctx.Done() // once it is to end
			time.Sleep(time.Second)
		})
		synctest.Wait()
		r.expect(all)
		r.stop()
		r.row("production", r.render(0))
		end()
		assert.Equal(t, time.Second, time.Since(began), "the end of the render was waited for")
		r.row("production", r.render(0))
		r.rows.Wait()
		assert.Empty(t, r.names)
	})
}
