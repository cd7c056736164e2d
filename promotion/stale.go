package promotion

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/render"
)

const (
	sluiceFile  = "sluice.yaml"
	trafficFile = "traffic.yaml"
)

// stale lists what has changed between two states of the target branch that
// makes the release another one than people looked at: the files of its render,
// the environment's namespace, and the share of traffic of the tag that is
// promoted to. Other weights, other tags and policies may change meanwhile: the
// gates always take them from the present target. Of a change of traffic the tags
// that gain count, as their builds are what people looked at.
func (s *Service) stale(base, target *gitrepo.Snapshot, in Input) ([]string, error) {
	if base.Revision() == target.Revision() || !in.Declared {
		return nil, nil
	}
	all, err := s.repo.Changed(base.Revision(), target.Revision())
	if err != nil {
		return nil, err
	}
	var changed []string
	for _, name := range all {
		if inside, ok := s.inProject(name); ok && inside != sluiceFile {
			changed = append(changed, inside)
		}
	}
	before, now := stand(base, in.Environment), stand(target, in.Environment)
	var stale []string
	if before.namespace() != now.namespace() {
		stale = append(stale, sluiceFile)
	}
	for _, c := range in.Components {
		dir := path.Join("environments", in.Environment, c.Name)
		if before.share(c) != now.share(c) {
			stale = append(stale, path.Join(dir, trafficFile))
		}
		tags := []string{c.Tag}
		if in.Kind == KindTraffic {
			tags = gaining(c)
		}
		decides := now.decides(c.Name, tags)
		for _, name := range changed {
			if decides(name) {
				stale = append(stale, name)
			}
		}
	}
	slices.Sort(stale)
	return slices.Compact(stale), nil
}

// standing is an environment at one state of the target branch; nil when it
// cannot be read.
type standing struct {
	repo        *envrepo.Repo
	environment envrepo.Environment
}

func stand(project *gitrepo.Snapshot, environment string) standing {
	repo, err := envrepo.Open(project)
	if err != nil {
		return standing{}
	}
	found, err := repo.Environment(environment)
	if err != nil {
		return standing{}
	}
	return standing{repo: repo, environment: found}
}

func (s standing) namespace() string { return s.environment.Namespace }

// share describes the traffic of the tag that is promoted to.
func (s standing) share(c ComponentInput) string {
	if s.repo == nil || c.Tag == "" {
		return ""
	}
	rel, err := s.repo.Release(s.environment.Name, c.Name)
	if err != nil || rel.Traffic == nil {
		return ""
	}
	percent, listed := rel.Traffic.Weight(c.Tag)
	text := fmt.Sprint(percent, listed)
	for _, mirror := range rel.Traffic.Mirrors {
		if mirror.Tag == c.Tag {
			text += fmt.Sprint(" mirror ", mirror.Percent)
		}
	}
	return text
}

// decides returns whether a file of the project decides what is rendered for
// a component, other tags than these left aside.
func (s standing) decides(component string, tags []string) func(name string) bool {
	dir := path.Join("environments", s.environment.Name, component)
	within := []string{dir}
	var without []string
	if s.repo != nil {
		rel, err := s.repo.PartialRelease(s.environment.Name, component)
		if err == nil {
			// What is found in spite of an error belongs to it all the same.
			closure, _ := render.InputClosure(s.repo.FS(), rel)
			within = append(within, closure.Paths...)
		}
		for _, tag := range rel.Tags {
			if !slices.Contains(tags, tag.Name) {
				without = append(without, tag.Dir)
			}
		}
	}
	without = append(without, path.Join(dir, trafficFile))
	below := func(name string) func(string) bool {
		return func(folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }
	}
	return func(name string) bool {
		return slices.ContainsFunc(within, below(name)) && !slices.ContainsFunc(without, below(name))
	}
}
