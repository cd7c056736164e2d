package promotion

import (
	"context"
	"path"

	"github.com/sluice-dev/sluice/envrepo"
)

// Pages is what a Forge may implement beside: addresses that people open. What it
// returns is shown as a link where it is a harmless http(s) address.
type Pages interface {
	// FileURL is the page of a file of the repository at a commit; "" when there is
	// none.
	FileURL(revision, path string) string
}

// linkOverlays adds the pages of the overlays at a head: what is cut from the rendered
// difference comes from there. Nothing serves rendered objects themselves.
func (s *Service) linkOverlays(in *Input, head string) {
	pages, ok := s.forge.(Pages)
	if !ok {
		return
	}
	for i := range in.Components {
		c := &in.Components[i]
		c.OverlayPage = pages.FileURL(head, s.inRepository(path.Join("environments", in.Environment, c.Name, "kustomization.yaml")))
	}
}

// recordURL is the page of a build's record at the commit that wrote it, which
// stays the same however the target branch moves; "" where the forge has no pages.
func (c *component) recordURL(ctx context.Context, b *envrepo.Build) (string, error) {
	pages, ok := c.forge.(Pages)
	if !ok || b == nil {
		return "", nil
	}
	file := c.inRepository(path.Join("builds", c.name, b.ID()+".yaml"))
	commits, err := c.repo.History(ctx, c.revision, []string{file}, 1)
	if err != nil || len(commits) == 0 {
		return "", err
	}
	return pages.FileURL(commits[0].Hash, file), nil
}
