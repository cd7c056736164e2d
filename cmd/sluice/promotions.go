package main

import (
	"context"
	"errors"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/reports"
)

// promotions is the promotion service over the remote repository.
type promotions struct {
	*promotion.Service
	project *envrepo.Repo // as the branch has it
	repo    *remoteRepository
}

// Done releases the repository.
func (p *promotions) Done() { p.repo.Close() }

// openPromotions opens the remote repository with the forge that hosts its
// pull requests.
func (a *app) openPromotions(ctx context.Context) (*promotions, error) {
	repo, forge, err := a.openForge(ctx)
	if err != nil {
		return nil, err
	}
	project, err := repo.open()
	if err != nil {
		repo.Close()
		return nil, err
	}
	keys, err := a.reportKeys()
	if err != nil {
		repo.Close()
		return nil, err
	}
	service := a.newService(repo, forge, reportedHealth{
		reports.NewReader(repo.Repository, project.Project().Name, keys, a.Now), a.health(repo, project.Project()),
	})
	return &promotions{service, project, repo}, nil
}

// newService is the promotion service over a repository and its forge.
func (a *app) newService(repo *remoteRepository, forge promotion.Forge, health promotion.Health) *promotion.Service {
	return promotion.New(promotion.Options{
		Repository: repo.Repository, Forge: forge, Branch: a.branch, Project: repo.project,
		Health: health, Decrypt: keyless, Now: a.Now,
	})
}

// gatesExitCode gives gates that have not passed their exit code.
func gatesExitCode(err error) error {
	var gates *promotion.GatesError
	if errors.As(err, &gates) {
		return codedError{err, exitFindings}
	}
	return err
}
