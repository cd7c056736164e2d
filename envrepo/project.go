package envrepo

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

const projectFile = "sluice.yaml"

var projectFields = fieldTable{
	"":                               {"apiVersion", "kind", "metadata", "environments", "acknowledgements"},
	"metadata":                       {"name"},
	"environments[]":                 {"name", "namespace", "autoDeploy", "promotion", "traffic", "prune", "paused"},
	"environments[].promotion":       {"from", "gates", "auto"},
	"environments[].promotion.gates": {"healthy", "soak", "checks", "config"},
	"environments[].traffic":         {"via", "drain"},
	"environments[].prune":           {"protect", "maxShare"},
	"acknowledgements[]":             {"environment", "prune"},
}

// How traffic changes are written: TrafficPolicy.Via.
const (
	ViaCommit      = "commit"
	ViaPullRequest = "pullRequest"
)

const (
	defaultDrain    = 15 * time.Second
	maxDrain        = time.Hour
	maxSoak         = 30 * 24 * time.Hour
	maxEnvironments = 64

	maxAcknowledgements = 1024
)

// prunePattern is the form of tokens: they begin with a letter, so that YAML
// takes none for a number.
var prunePattern = regexp.MustCompile(`^[a-f][0-9a-f]{11}$`)

// decodeProject decodes sluice.yaml.
func decodeProject(file string, data []byte) (Project, error) {
	p, err := readProject(file, data)
	if err != nil {
		return Project{}, err
	}
	return p, nil
}

// decodeProjectFor decodes what sluice.yaml says of one environment. Problems in
// the entries of others are none, and those entries are left out.
func decodeProjectFor(file, env string, data []byte) (Project, error) {
	p, err := readProject(file, data)
	var problems []*FileError
	switch e := err.(type) {
	case nil:
		return p, nil
	case *FileError:
		problems = []*FileError{e}
	case *FileErrors:
		problems = e.Problems
	}
	flawed := map[int]bool{}
	for _, problem := range problems {
		m := environmentEntry.FindStringSubmatch(problem.Field)
		if m == nil {
			return Project{}, err // it is about the whole
		}
		i, _ := strconv.Atoi(m[1])
		flawed[i] = true
	}
	sound := p
	sound.Environments = nil
	for i, e := range p.Environments {
		if flawed[i] && e.Name == env {
			return Project{}, err
		}
		if !flawed[i] {
			sound.Environments = append(sound.Environments, e)
		}
	}
	// Which environment a flawed entry is about cannot always be told: it may be
	// this one. Nor are there all problems, where there are very many.
	if _, missing := sound.environment(env); missing != nil || len(problems) >= maxProblems {
		return Project{}, err
	}
	return sound, nil
}

var environmentEntry = regexp.MustCompile(`^environments\[([0-9]+)\]`)

// readProject decodes sluice.yaml as far as it can be.
func readProject(file string, data []byte) (Project, error) {
	var p Project
	err := decodeFile(file, "Project", projectFields, data, func(o object) {
		if o.require("metadata") {
			metadata, _ := o.child("metadata")
			metadata.require("name")
			p.Name = metadata.text("name", labelProblem)
		}
		if !o.require("environments") {
			return
		}
		items := o.list("environments")
		if len(items) == 0 && len(o.d.problems) == 0 {
			o.problem("environments", "", "must list at least one environment")
		}
		if len(items) > maxEnvironments {
			o.problem("environments", "", "must list at most %d environments, found %d", maxEnvironments, len(items))
			return
		}
		lines := map[string]int{}
		for i, it := range items {
			e := decodeEnvironment(o.d.object(it.node, it.path), i, p.Environments, lines)
			p.Environments = append(p.Environments, e)
		}
		p.Acknowledgements = decodeAcknowledgements(o)
	})
	return p, err
}

// decodeEnvironment decodes the i-th environment; earlier are those before it,
// lines where their names and namespaces were given.
func decodeEnvironment(o object, i int, earlier []Environment, lines map[string]int) Environment {
	e := Environment{
		Name:       o.text("name", labelProblem),
		Namespace:  o.text("namespace", namespaceProblem),
		AutoDeploy: o.flag("autoDeploy"),
		Paused:     o.flag("paused"),
	}
	o.require("name")
	o.require("namespace")
	for _, other := range earlier {
		if e.Name != "" && other.Name == e.Name {
			o.problem("name", "give every environment a name of its own", "%q is already the environment of line %d", e.Name, lines["name "+e.Name])
		}
		if e.Namespace != "" && other.Namespace == e.Namespace {
			o.problem("namespace", "give every environment a namespace of its own: two in one would prune each other's objects",
				"%q is already the namespace of environment %s: %s and %s share it", e.Namespace, other.Name, other.Name, e.Name)
		}
	}
	if n := o.value["name"]; n != nil {
		lines["name "+e.Name] = n.Line
	}
	if e.AutoDeploy && i > 0 {
		o.problem("autoDeploy", "builds reach the others by promotion", "is for the first environment only, which is %s", earlier[0].Name)
	}
	e.Promotion = decodePromotion(o, e.Name, earlier)
	e.Traffic = TrafficPolicy{Via: ViaCommit, Drain: defaultDrain}
	if traffic, ok := o.child("traffic"); ok {
		if traffic.has("via") {
			e.Traffic.Via = traffic.text("via", oneOf(ViaCommit, ViaPullRequest))
		}
		e.Traffic.Drain = traffic.duration("drain", defaultDrain, 0, maxDrain)
	}
	e.Prune = decodePrune(o)
	return e
}

func decodePrune(o object) PrunePolicy {
	p := DefaultPrune()
	prune, ok := o.child("prune")
	if !ok {
		return p
	}
	if prune.has("protect") {
		p.Protect = prune.texts("protect", matching(kindPattern, "a kind such as PersistentVolumeClaim"))
	}
	if prune.has("maxShare") {
		n, ok := prune.integer("maxShare")
		if p.MaxShare = n; ok && (n < 0 || n > 100) {
			prune.problem("maxShare", "percent of the environment's objects; 100 holds nothing but the removal of the whole environment", "must be 0 to 100, found %d", n)
		}
	}
	return p
}

// decodeAcknowledgements decodes the deletions that are allowed. Their
// environments are not looked up: one may be there because it was removed.
func decodeAcknowledgements(o object) []Acknowledgement {
	if !o.has("acknowledgements") {
		return nil
	}
	items := o.list("acknowledgements")
	if len(items) > maxAcknowledgements {
		o.problem("acknowledgements", "remove those whose deletion is done", "must list at most %d, found %d", maxAcknowledgements, len(items))
		return nil
	}
	var out []Acknowledgement
	for _, it := range items {
		a := o.d.object(it.node, it.path)
		a.require("environment")
		a.require("prune")
		out = append(out, Acknowledgement{
			Environment: a.text("environment", labelProblem),
			Prune:       a.text("prune", matching(prunePattern, "the 12 hex digits that the held releases name")),
		})
	}
	return out
}

func decodePromotion(o object, name string, earlier []Environment) Promotion {
	var p Promotion
	if len(earlier) > 0 {
		p.From = earlier[len(earlier)-1].Name
	}
	promotion, ok := o.child("promotion")
	if !ok {
		return p
	}
	if len(earlier) == 0 {
		o.problem("promotion", "remove it; builds land here with autoDeploy or `sluice deploy`", "is not for the first environment: there is none to promote from")
		return p
	}
	p.Auto = promotion.flag("auto")
	if promotion.has("from") {
		p.From = promotion.text("from", func(from string) string {
			known := make([]string, 0, len(earlier))
			for _, e := range earlier {
				known = append(known, e.Name)
			}
			switch {
			case slices.Contains(known, from):
				return ""
			case from == name:
				return "is the environment itself: name an earlier one"
			}
			return "is not an earlier environment" + didYouMean(from, known)
		})
	}
	if gates, ok := promotion.child("gates"); ok {
		p.Gates = Gates{
			Healthy: gates.flag("healthy"),
			Config:  gates.flag("config"),
			Soak:    gates.duration("soak", 0, 0, maxSoak),
			Checks:  gates.texts("checks", matching(wordPattern, "the name of a check")),
		}
	}
	return p
}

// environment finds an environment of the project.
func (p Project) environment(name string) (Environment, error) {
	known := make([]string, 0, len(p.Environments))
	for _, e := range p.Environments {
		if e.Name == name {
			return e, nil
		}
		known = append(known, e.Name)
	}
	return Environment{}, &UnknownEnvironmentError{Name: name, Known: known}
}

// environmentDir is the folder of an environment.
func environmentDir(env string) string { return fmt.Sprintf("environments/%s", env) }
