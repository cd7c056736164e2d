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
		e.Add(r)
	}
	return e
}

// judgeIsolation notes the ways from one environment into another, and pods that are
// not admitted.
func (c *checked) judgeIsolation() {
	for _, f := range isolation.Judge(c.environments) {
		dir := "environments/" + strings.TrimSuffix(f.Release, "/"+envrepo.EnvironmentRelease)
		_, component, _ := strings.Cut(f.Release, "/")
		c.addLinted(f.Workload, component, finding{f.Severity, f.Release, dir, f.Object, f.Message, f.Hint})
	}
}

// lack is what is said of a workload, as its component calls it.
type lack struct{ component, name, message string }

// addLinted notes a finding of a release. What a component's workload lacks, it
// lacks in each environment and tag that does not patch it: it is told once, with
// the names of the releases. Other findings are about no workload ("").
func (c *checked) addLinted(name, component string, f finding) {
	if name == "" || component == envrepo.EnvironmentRelease {
		c.add(f)
		return
	}
	key := lack{component, name, f.Message}
	i, ok := c.lacking[key]
	if !ok {
		if c.lacking == nil {
			c.lacking = map[lack]int{}
		}
		c.lacking[key] = len(c.Findings)
		c.add(f)
		return
	}
	told := &c.Findings[i]
	told.Object = name
	if told.join(f.Release); strings.Contains(told.Release, ",") {
		told.File = "components/" + component
	} else { // several of its tags
		told.File = "environments/" + told.Release
	}
}
