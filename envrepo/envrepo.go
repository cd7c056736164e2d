// Package envrepo is the environments repository as types and pure edits.
//
// Call Open first, on a file system rooted at the project folder; everything
// else is read from there on demand: Release says what the repository declares
// about a component in an environment. To change something, put a Tree over
// the file system and call one of the edits on it: RecordBuild, Deploy,
// Promote, SetTraffic, PromoteTraffic, SuspendTags, Rollback, or a scaffold:
// Init, AddEnvironment, AddComponent, TagComponent. Then commit the tree's
// Writes and Deletes. Edits compose: Open works on a Tree, too.
//
// An edit that fails leaves the tree as it was. One that succeeds has changed
// the bytes of the values that it names, and no other byte of a file that the
// user wrote: comments, order, quotes and indentation stay. Only where a file's
// style leaves no place for a value is the file printed anew.
//
// Everything that is read is taken for hostile: sizes are bounded, symbolic
// links are not followed, nothing panics. Errors name the file, its line and
// the remedy; those meant for users have a method Hint.
//
// The package knows no Git and no Kubernetes, renders nothing, decrypts nothing
// and never writes to a disk.
package envrepo

import "time"

// APIVersion is the apiVersion of every file that Sluice defines.
const APIVersion = "sluice.dev/v1alpha1"

// EnvironmentRelease is the reserved release that holds an environment's own
// objects (network policies, gateways, quotas). It is applied first.
const EnvironmentRelease = "environment"

// Project is sluice.yaml: the environments in order, with their policies.
type Project struct {
	Name             string
	Environments     []Environment
	Acknowledgements []Acknowledgement
}

// Acknowledgement allows one deletion that the reconciler holds. It stands beside
// the environments, as that of a removed environment has no other place.
type Acknowledgement struct {
	Environment string
	Prune       string // the token that the reconciler gives: good for exactly those objects
}

// Acknowledged are the tokens of the deletions that are allowed in an
// environment, which the project may not have any more.
func (p Project) Acknowledged(environment string) []string {
	var tokens []string
	for _, a := range p.Acknowledgements {
		if a.Environment == environment {
			tokens = append(tokens, a.Prune)
		}
	}
	return tokens
}

// Environment is an isolated place to run: one namespace in one cluster.
type Environment struct {
	Name       string
	Namespace  string
	AutoDeploy bool // builds land here; only the first environment may say so
	Paused     bool
	Promotion  Promotion
	Traffic    TrafficPolicy
	Prune      PrunePolicy
}

// Promotion says where an environment's digests come from and what must hold
// before they may.
type Promotion struct {
	From  string // the source environment, resolved: by default the one before; "" for the first
	Gates Gates
	Auto  bool
}

// Gates are the conditions of a promotion.
type Gates struct {
	Healthy bool
	Soak    time.Duration
	Checks  []string // names of build checks that must have passed
	Config  bool
}

// TrafficPolicy says how traffic changes are written and how long a tag keeps
// running after its last request was routed to it.
type TrafficPolicy struct {
	Via   string        // "commit" or "pullRequest"
	Drain time.Duration // default 15s
}

// PrunePolicy says what is deleted only on purpose.
type PrunePolicy struct {
	// Protect names the kinds that are never deleted.
	Protect []string // default PersistentVolumeClaim, Namespace, CustomResourceDefinition
	// MaxShare is how much of the environment, in percent of its objects, may be
	// deleted without an acknowledgement.
	MaxShare int // default 50
}

// DefaultPrune is the policy of an environment that says nothing about it.
func DefaultPrune() PrunePolicy {
	return PrunePolicy{Protect: []string{"PersistentVolumeClaim", "Namespace", "CustomResourceDefinition"}, MaxShare: 50}
}

// Component is components/<name>/component.yaml: one deployable service.
type Component struct {
	Name          string
	Image         string // the image name that overlays pin
	Config        Contract
	ConfigSchema  string // the file of config.schema, from the project's folder; "" for none
	DependsOn     []string
	HealthTimeout time.Duration // default 5m
	Health        []HealthRule  // of kinds that are not judged by kstatus
	SecretsIn     []string      // kinds besides Secret that may hold decrypted values: KIND or KIND.GROUP
	AutoDeploy    *bool         // overrides the environment's
	Paused        bool
}

// Contract names the configuration keys a workload needs and those it may use.
type Contract struct {
	Required []string
	Optional []string
}

// Traffic is traffic.yaml: weights and mirrors over the tags of a release.
type Traffic struct {
	Weights []Weight // document order; they sum to 100
	Mirrors []Weight // percent of production requests copied to a tag of weight 0
}

// Weight gives a tag a share, in percent.
type Weight struct {
	Tag     string
	Percent int
}

// Weight returns the share of tag and whether it is listed at all: a listed
// tag of weight 0 keeps its pods, an unlisted one is scaled to zero.
func (t Traffic) Weight(tag string) (percent int, listed bool) {
	for _, w := range t.Weights {
		if w.Tag == tag {
			return w.Percent, true
		}
	}
	return 0, false
}

// Build is builds/<component>/<id>.yaml: the immutable record of one digest.
type Build struct {
	Component string
	Image     string
	Digest    string // sha256:<64 hex digits>
	CreatedAt time.Time
	Source    Source
	Run       Run
	Config    *Contract // the contract at that commit; nil when not recorded
	Checks    []Check
}

// ClockSkew is how far the clocks of those who write to the repository may be
// apart.
const ClockSkew = 5 * time.Minute

// Ahead reports whether the record says that the build is made in the future.
func (b Build) Ahead(now time.Time) bool { return b.CreatedAt.After(now.Add(ClockSkew)) }

// Source is the commit a build was made from.
type Source struct {
	Repository string
	Commit     string
	Ref        string
	Message    string
}

// Run is the CI run that made a build.
type Run struct {
	ID  string
	URL string
}

// Check is the outcome of one check of a build.
type Check struct {
	Name    string
	Status  string
	Summary string
	URL     string // where people see it; http or https
}

// Release is one component in one environment as the repository declares it:
// the unit that is rendered, applied, health-checked and reported.
type Release struct {
	Environment Environment
	Component   Component // zero for the reserved release
	Name        string    // the component's name, or EnvironmentRelease
	Dir         string    // environments/<environment>[/<component>]
	Traffic     *Traffic  // nil: untagged
	Digest      string    // the pinned digest of an untagged release, "" when none
	Tags        []Tag     // every tag folder sorted by name, listed in Traffic or not
}

// Tagged reports whether several deployments of the release run side by side.
func (r Release) Tagged() bool { return r.Traffic != nil }

// Tag is one named deployment of a tagged release.
type Tag struct {
	Name   string
	Dir    string
	Digest string
	// Broken says why the overlay cannot be read; Digest is "" then. Only
	// [Repo.PartialRelease] returns such tags.
	Broken error
}
