package promotion_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/local"
)

// commenting is a local forge whose comments are looked at.
type commenting struct {
	*local.Forge
	comments chan string
}

func (c commenting) Comment(_ context.Context, number int, key, body string) error {
	c.comments <- fmt.Sprintf("#%d %s\n%s", number, key, body)
	return nil
}

func (commenting) Deploy(context.Context, promotion.Deployment) error {
	return promotion.ErrUnsupported
}

func (commenting) Unfinished(context.Context, []string) ([]promotion.Deployment, error) {
	return nil, promotion.ErrUnsupported
}

// TestCommentsOnWhatWasMerged runs a Herald over a real repository: which pull
// request a release comes from is read from it.
func TestCommentsOnWhatWasMerged(t *testing.T) {
	t.Parallel()
	s := newShop(t, "projects/shop")
	forge := commenting{s.forge, make(chan string, 10)}
	service := promotion.New(promotion.Options{
		Repository: s.repo, Forge: forge, Branch: "main", Project: s.project, Health: s.health, Now: func() time.Time { return now }, Decrypt: keyless,
	})
	s.record("api", "b")
	s.record("web", "b")
	_, err := service.Propose(t.Context(), promotion.Request{All: true, To: "production"})
	require.NoError(t, err)
	merged, err := service.Merge(t.Context(), 1, promotion.MergeOptions{})
	require.NoError(t, err)

	h := promotion.NewHerald(promotion.HeraldOptions{Service: service, Problem: func(error) {}})
	go h.Run(t.Context())
	tell := func(component, revision string, state promotion.DeploymentState, message string) {
		h.Tell(promotion.Outcome{Environment: "production", Component: component, Revision: revision, State: state, Message: message,
			Digests: []string{digest("b")}, Fresh: true})
	}
	tell("web", merged.Revision, promotion.DeploymentInProgress, "0/2 pods")
	tell("api", merged.Revision, promotion.DeploymentFailure, "`@everyone`\n<!-- sluice:x -->")
	assert.Equal(t, "#1 sluice/production\nIn `production`:\n\n- `api` has **failed**: `` `@everyone` <! -- sluice:x --> ``\n- `web` is being applied\n\n"+
		"Automatic promotion of what has failed stops here, until a newer build or a person goes on. "+
		"`sluice rollback` goes back, as does reverting the merge.\n", <-forge.comments)

	s.write("environments/development/web/notes.txt", "nothing to do with it\n")
	tell("api", s.main(), promotion.DeploymentSuccess, "")
	assert.Equal(t, "#1 sluice/production\nIn `production`:\n\n- `api` is **live**, with `bbbbbbbbbbbb`\n- `web` is being applied\n", <-forge.comments)

	s.write("environments/production/web/notes.txt", "another change\n")
	tell("web", s.main(), promotion.DeploymentFailure, "no fault of the pull request")
	tell("api", s.main(), promotion.DeploymentFailure, "later")
	assert.Equal(t, "#1 sluice/production", (<-forge.comments)[:len("#1 sluice/production")], "that of api: nothing else was said of web")
	assert.Empty(t, forge.comments)
}
