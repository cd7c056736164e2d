package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

func TestWatchThatIsAlwaysExpiredIsNoHotLoop(t *testing.T) {
	for name, answer := range map[string]func() (watch.Interface, error){
		"at once": func() (watch.Interface, error) { return nil, apierrors.NewResourceExpired("too old") },
		"gone": func() (watch.Interface, error) {
			return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Code: 410, Reason: metav1.StatusReasonGone}}
		},
		"later": func() (watch.Interface, error) { return watch.NewEmptyWatch(), nil },
	} {
		t.Run(name, func(t *testing.T) {
			var paused []time.Duration
			p := &pacer{pauses: pauses(rewatchMin, rewatchMax), pause: func(_ context.Context, d time.Duration) { paused = append(paused, d) }}
			watches := p.pace(func(context.Context, metav1.ListOptions) (watch.Interface, error) { return answer() })
			for range 12 {
				_, _ = watches(context.Background(), metav1.ListOptions{SendInitialEvents: ptr.To(true)})
			}
			require.Len(t, paused, 10, "the library may begin anew at once, once")
			least := rewatchMin
			for _, d := range paused {
				assert.GreaterOrEqual(t, d, least)
				assert.LessOrEqual(t, d, rewatchMax*3/2)
				least = min(2*least, rewatchMax)
			}
		})
	}
	t.Run("other errors, and watches that go on, are not its business", func(t *testing.T) {
		p := &pacer{pause: func(context.Context, time.Duration) { t.Error("it pauses") }}
		fails := p.pace(func(context.Context, metav1.ListOptions) (watch.Interface, error) { return nil, errors.New("refused") })
		goesOn := p.pace(func(context.Context, metav1.ListOptions) (watch.Interface, error) { return watch.NewEmptyWatch(), nil })
		for range 4 {
			_, _ = fails(context.Background(), metav1.ListOptions{SendInitialEvents: ptr.To(true)})
			_, _ = goesOn(context.Background(), metav1.ListOptions{ResourceVersion: "1"})
		}
	})
}

// Who was denied may have been given the right since.
func TestPauseOfADeniedWatchEndsWhenItIsWanted(t *testing.T) {
	v := newSeen()
	require.NoError(t, v.Replace(nil, "1"))
	v.Want()
	select {
	case <-v.wanted:
		require.Fail(t, "a view that is current wants nothing")
	default:
	}
	v.fail()
	v.Want()
	v.Want()
	pauseUntil(context.Background(), 0, time.Hour, v.wanted)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	pauseUntil(ended, time.Hour, 2*time.Hour, v.wanted)
}
