package promotion_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/local"
)

// paged is a forge with pages.
type paged struct{ *local.Forge }

func (paged) FileURL(revision, path string) string {
	return "https://git.example.com/blob/" + revision + "/" + path
}

// TestRecordsAreLinked: the address of a record is that of the commit that wrote
// it, so that a busy target branch does not change the text.
func TestRecordsAreLinked(t *testing.T) {
	t.Parallel()
	s := newShop(t, "projects/shop")
	s.record("api", "b")
	s.service = promotion.New(promotion.Options{
		Repository: s.repo, Forge: paged{s.forge}, Branch: "main", Project: s.project, Health: s.health, Now: func() time.Time { return now },
		Decrypt: keyless,
	})
	body := s.propose(toProduction).PullRequest.Body
	_, rest, found := strings.Cut(body, "[record](https://git.example.com/blob/")
	assert.True(t, found, body)
	revision, rest, _ := strings.Cut(rest, "/")
	assert.True(t, strings.HasPrefix(rest, "projects/shop/builds/api/bbbbbbbbbbbb.yaml)"), rest)
	assert.Contains(t, s.file(revision, "builds/api/bbbbbbbbbbbb.yaml"), digest("b"))
	assert.NotContains(t, body, "[the overlay]", "nothing is cut")

	s.write("environments/development/web/notes.txt", "nothing to do with it\n")
	assert.Equal(t, body, s.propose(toProduction).PullRequest.Body)
}
