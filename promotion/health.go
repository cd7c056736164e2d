package promotion

import (
	"context"
	"time"
)

// Health tells how a release is doing in its cluster. It is declared here and
// joined to the reconciler's report by the command: a bare status that anyone
// may set is not a source of it.
type Health interface {
	// Release reports on one component in one environment. That nobody knows
	// (no cluster is given, the release has not been reported) is a report with
	// Known false and the reason in Message; an error means that asking failed,
	// and is treated as unknown too.
	Release(ctx context.Context, environment, component string) (HealthReport, error)
}

// HealthReport is what is known of a release.
type HealthReport struct {
	Known   bool
	Ready   bool      // every deployment that should run does
	Digests []string  // the digests that run, the reported ones and not the declared ones
	Since   time.Time // since when it has been Ready with exactly these digests; a commit that changes nothing must not reset it
	Message string    // why it is not ready, or not known; one line
	// Revision is the commit whose content the report is about, "" when that is not
	// told. A later one that leaves the release's files as they are changes nothing.
	Revision string

	// Failed says that it will not become ready without a person or another commit.
	Failed bool
	// Tags are the deployments of a tagged release, where they are known one by one.
	Tags []TagHealth
	// Served are digests that were replaced by a commit while they served and were
	// ready, oldest first.
	Served []Served
}

// TagHealth tells how one deployment of a tagged release is doing.
type TagHealth struct {
	Tag     string
	Digest  string // that runs
	Ready   bool
	Message string // why it is not ready
}

// Served is a digest that had the most requests, and from when to when it was ready.
type Served struct {
	Digest       string
	Since, Until time.Time
}
