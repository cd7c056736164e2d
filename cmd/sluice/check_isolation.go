package main

import (
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/render/isolation"
)

// isolated collects what is rendered of an environment, to be held against the
// others. Of one whose own objects do not render the policies are not known: there
// is nothing to say of it but that.
func isolated(env envrepo.Environment, names []string, rendered map[string]*render.Result) *isolation.Environment {
	e := isolation.NewEnvironment(env)
	for _, name := range names {
		r := rendered[name]
		if r == nil {
			if name == envrepo.EnvironmentRelease {
				return nil
			}
			continue
		}
		e.Add(r.Release, r.Shared)
		for _, t := range r.Tags {
			e.Add(r.Release, t.Objects)
		}
	}
	return e
}

// reachable finds ways from one environment into another.
func reachable(environments []*isolation.Environment) []finding {
	var found []finding
	for _, f := range isolation.Judge(environments) {
		dir := "environments/" + strings.TrimSuffix(f.Release, "/"+envrepo.EnvironmentRelease)
		found = append(found, finding{f.Severity, f.Release, dir, f.Object, f.Message, f.Hint})
	}
	return found
}

// workload is a workload as its component calls it, and what is said of it.
type workload struct{ component, name, message string }

// addLinted notes a finding of a release. What a component's workload lacks, it
// lacks in each environment and tag that does not patch it: it is told once, with
// the names of the releases.
func (c *checked) addLinted(rel envrepo.Release, f render.Finding) {
	id := rel.Environment.Name + "/" + rel.Name
	found := finding{f.Severity, id, f.File, f.Object, f.Message, f.Hint}
	if f.Workload == "" || rel.Name == envrepo.EnvironmentRelease {
		c.add(found)
		return
	}
	key := workload{rel.Name, f.Workload, f.Message}
	i, ok := c.lacking[key]
	if !ok {
		if c.lacking == nil {
			c.lacking = map[workload]int{}
		}
		c.lacking[key] = len(c.Findings)
		c.add(found)
		return
	}
	told := &c.Findings[i]
	told.Object = f.Workload
	if told.join(id); told.Release == id { // several of its tags
		told.File = rel.Dir
	} else {
		told.File = "components/" + rel.Name
	}
}
