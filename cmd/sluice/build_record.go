package main

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/render/contract"
)

// recordBuild records a build and deploys it to the first environment, unless that
// would bring up pods that lack configuration: then the record is written alone, and
// stopped says why. A build that is recorded already deploys nothing, whatever has
// been deployed since; stopped is then set as long as it is the newest one and could
// not be deployed.
func recordBuild(ctx context.Context, t *envrepo.Tree, b envrepo.Build, now time.Time) (done envrepo.Summary, stopped, err error) {
	trial := envrepo.NewTree(t)
	tried, deployErr := envrepo.RecordBuild(trial, b)
	if deployErr == nil {
		stopped = contractHolds(ctx, t, trial, b)
		if stopped == nil && !tried.Changed {
			stopped = notDeployedYet(ctx, t, b, now, &tried)
		}
	}
	if deployErr == nil && stopped == nil {
		done, err = envrepo.RecordBuild(t, b)
		done.Notes = tried.Notes
		return done, nil, err
	}
	if done, err = envrepo.AddBuild(t, b); err != nil {
		return envrepo.Summary{}, nil, err
	}
	if stopped == nil {
		stopped = notDeployed(firstEnvironment(t), b, deployErr)
	}
	return done, stopped, nil
}

// firstEnvironment is the name of the environment that builds arrive in; the project
// has been opened before.
func firstEnvironment(files fs.FS) string {
	repo, err := envrepo.Open(files)
	if err != nil {
		return ""
	}
	return repo.Project().Environments[0].Name
}

// notDeployedError says that a build was recorded and not deployed.
type notDeployedError struct {
	environment string
	build       envrepo.Build
	missing     []promotion.ContractInput // contracts that do not hold; empty: cause
	cause       error
	remedy      func(keys ...string) string // the commands that add keys
}

func notDeployed(environment string, b envrepo.Build, cause error) error {
	return codedError{&notDeployedError{environment: environment, build: b, cause: cause}, exitNotDeployed}
}

func (e *notDeployedError) Error() string {
	text := fmt.Sprintf("build %s of %s is recorded, and not deployed to %s", e.build.ID(), e.build.Component, e.environment)
	if e.cause != nil {
		return text + ": " + e.cause.Error()
	}
	for _, c := range e.missing {
		for i, key := range c.Keys {
			text += fmt.Sprintf("\n  required configuration key %s is missing in %s, for %s (%s): %s",
				key, e.environment, buildID(c.Digest), c.Who(), c.Missing[i])
		}
		for _, invalid := range c.Invalid {
			text += fmt.Sprintf("\n  configuration in %s is not allowed, for %s (%s): %s", e.environment, buildID(c.Digest), c.Who(), invalid)
		}
	}
	return text
}

func (e *notDeployedError) Unwrap() error { return e.cause }

// Hint says which commands add the keys and deploy the build.
func (e *notDeployedError) Hint() string {
	deploy := fmt.Sprintf("`sluice deploy %s --environment %s --build %s`", e.build.Component, e.environment, e.build.ID())
	if e.cause != nil {
		return "mend that, and then deploy it: " + deploy
	}
	var keys []string
	for _, c := range e.missing {
		keys = append(keys, c.Keys...)
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	add := "correct the values"
	if len(keys) > 0 {
		add = e.remedy(keys...)
	}
	return add + "; then deploy it: " + deploy
}

// contractHolds judges what a trial deployment of a build would run. Where nothing is
// deployed, nothing can break. A release that does not render is not applied either:
// its digest is bumped as asked, and the pods that run are left alone.
func contractHolds(ctx context.Context, t, trial *envrepo.Tree, b envrepo.Build) error {
	before, err := envrepo.Open(t)
	if err != nil {
		return nil // the edit said so
	}
	after, err := envrepo.Open(trial)
	if err != nil {
		return nil
	}
	environment := after.Project().Environments[0].Name
	contracts, err := promotion.Contracts(ctx, before, after, environment, b.Component, keyless)
	if err != nil {
		return nil
	}
	broken := slices.DeleteFunc(contracts, func(c promotion.ContractInput) bool { return !c.Broken() })
	if len(broken) == 0 {
		return nil
	}
	return codedError{&notDeployedError{environment: environment, build: b, missing: broken,
		remedy: func(keys ...string) string {
			return contract.Remedy(trial, "environments/"+environment+"/"+b.Component, keys...)
		}}, exitNotDeployed}
}

// notDeployedYet judges a repeated record. Deploying is left to a person, since a
// digest that is not there any more may have been rolled back; but a pipeline that is
// run again must not turn green while keys are missing. It only looks at the newest
// build of the component.
func notDeployedYet(ctx context.Context, t *envrepo.Tree, b envrepo.Build, now time.Time, said *envrepo.Summary) error {
	repo, err := envrepo.Open(t)
	if err != nil {
		return nil
	}
	builds, err := repo.Builds(b.Component)
	if err != nil {
		return nil
	}
	recorded, err := repo.Build(b.Component, b.Digest)
	if err != nil || slices.ContainsFunc(builds, func(other envrepo.Build) bool {
		return other.CreatedAt.After(recorded.CreatedAt) && !other.Ahead(now)
	}) {
		return nil
	}
	environment := repo.Project().Environments[0]
	component, err := repo.Component(b.Component)
	wanted := environment.AutoDeploy
	if err == nil && component.AutoDeploy != nil {
		wanted = *component.AutoDeploy
	}
	rel, err := repo.PartialRelease(environment.Name, b.Component)
	if err != nil || !wanted || rel.Digest == b.Digest || slices.ContainsFunc(rel.Tags, func(tag envrepo.Tag) bool { return tag.Digest == b.Digest }) {
		return nil
	}
	trial := envrepo.NewTree(t)
	if _, err := envrepo.Deploy(trial, environment.Name, b.Component, b.Digest, "", rel.Tagged()); err != nil {
		return nil
	}
	if err := contractHolds(ctx, t, trial, b); err != nil {
		return err
	}
	said.Notes = append(said.Notes, fmt.Sprintf("it is not deployed to %s; `sluice deploy %s --environment %s --build %s` does that",
		environment.Name, b.Component, environment.Name, b.ID()))
	return nil
}
