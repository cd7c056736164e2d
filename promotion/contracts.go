package promotion

import (
	"context"
	"fmt"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
)

// Contracts holds the config contracts of a release against what an edit of the
// project makes of it, for every digest that the edit pins or starts: that digest's
// contract, those of the digests that keep running, and that of the one which a
// rollback would bring back. It is empty when no digest changes. Build records are
// read from after. An error means that the release cannot be read or rendered, so
// that nothing can be said.
func Contracts(ctx context.Context, before, after *envrepo.Repo, environment, name string, decrypt render.Decrypt) ([]ContractInput, error) {
	old, err := before.PartialRelease(environment, name)
	if err != nil {
		return nil, err
	}
	new, err := after.PartialRelease(environment, name)
	if err != nil {
		return nil, err
	}
	changes := digestChanges(old, new)
	if len(changes) == 0 {
		return nil, nil
	}
	rendered, err := render.BuildPartial(ctx, render.Request{FS: after.FS(), Release: new, Decrypt: decrypt})
	if err != nil {
		return nil, fmt.Errorf("rendering %s: %w", new.Dir, err)
	}
	c := component{before: after, after: after, name: name, new: new, newRender: rendered}
	var list []ContractInput
	for _, change := range changes {
		list = append(list, c.contracts(change)...)
	}
	return list, nil
}
