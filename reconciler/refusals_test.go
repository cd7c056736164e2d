package reconciler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const noReplicas = "Deployment/api-green is invalid"

// halves is a release with each half of its requests at one of two tags.
func halves(t *testing.T) *world {
	w := newWorld(t)
	w.tagged("blue=50 green=50", sharedObjects(), tag("blue", "one", 2), tag("green", "one", 2, configMap("green-old", "1")))
	w.pass()
	w.up("api-blue", "api-green")
	w.pass()
	w.pass()
	w.commit(2)
	return w
}

func TestDecideLeavingARefusedTag(t *testing.T) {
	w := halves(t)
	w.refuses = map[string]string{"Deployment/api-green": noReplicas}
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 4), tag("green", "two", 2, configMap("green-new", "1")))
	equal(t, `
release api in production, namespace shop, revision c00000000000
record intent
  ConfigMap/green-new
apply config
  ConfigMap/green-new (create)
apply workloads
  Deployment/api-blue (update)
  Deployment/api-green (update)
hold routes: routes stay at blue=50 green=50: tag blue is not ready: Deployment/api-blue is being applied
prune later
  ConfigMap/green-old
report Held TrafficHeld: routes stay at blue=50 green=50: tag blue is not ready: Deployment/api-blue is being applied
again in 1s
tried in vain: Deployment/api-green is invalid
release api in production, namespace shop, revision c00000000000
record intent
  ConfigMap/green-new
apply workloads
  Deployment/api-blue (update)
hold routes: routes stay at blue=50 green=50: tag blue is not ready: Deployment/api-blue is being applied
prune later
  ConfigMap/green-old
report Failed ApplyFailed: Deployment/api-green is invalid
again in 1s
release api in production, namespace shop, revision c00000000000
hold routes: routes stay at blue=50 green=50: tag blue is not ready: Deployment/api-blue: its controller has not taken the last change in yet
prune later
  ConfigMap/green-old
report Failed ApplyFailed: Deployment/api-green is invalid
again in 1s
`, w.pass())
	w.up("api-blue")
	equal(t, `
release api in production, namespace shop, revision c00000000000
apply config
  ConfigMap/green-new (create)
apply workloads
  Deployment/api-green (update)
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
prune later
  ConfigMap/green-old
report Waiting Applying: objects are being applied
again in 1s
tried in vain: Deployment/api-green is invalid
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
prune later
  ConfigMap/green-old
report Failed ApplyFailed: Deployment/api-green is invalid
again in 1s
release api in production, namespace shop, revision c00000000000
prune later
  ConfigMap/green-old
report Failed ApplyFailed: Deployment/api-green is invalid
again in 1s
`, w.pass())
	assert.Equal(t, "blue=100 green=0", w.in.Last.Status.Summary.Traffic)

	t.Run("nothing is pruned until it is repaired", func(t *testing.T) {
		w.after(time.Minute)
		equal(t, `
release api in production, namespace shop, revision c00000000000
prune later
  ConfigMap/green-old
report Failed ApplyFailed: Deployment/api-green is invalid
again in 15s
`, w.last())
		w.refuses = nil
		w.pass()
		w.up("api-green")
		assert.Contains(t, w.pass(), "prune\n  ConfigMap/green-old\n")
	})
}

func TestDecideRefusedTagDoesNotRise(t *testing.T) {
	w := halves(t)
	w.refuses = map[string]string{"Deployment/api-green": noReplicas}
	w.tagged("blue=40 green=60 mirror:green=5", sharedObjects(), tag("blue", "two", 2), tag("green", "two", 2))
	equal(t, `
release api in production, namespace shop, revision c00000000000
apply workloads
  Deployment/api-blue (update)
  Deployment/api-green (update)
hold routes: routes stay at blue=50 green=50: tag green is not ready: Deployment/api-green is being applied
prune later
  ConfigMap/green-old
report Held TrafficHeld: routes stay at blue=50 green=50: tag green is not ready: Deployment/api-green is being applied
note the mirror to tag green is left out: Deployment/api-green is being applied
again in 1s
release api in production, namespace shop, revision c00000000000
hold routes: routes stay at blue=50 green=50: tag green is not ready: Deployment/api-green was refused
prune later
  ConfigMap/green-old
report Failed ApplyFailed: Deployment/api-green is invalid
note the mirror to tag green is left out: Deployment/api-green was refused
again in 1s
`, w.pass())
}

func TestDecideRefusedConfigurationKeepsTheWorkloadsThatMayMountIt(t *testing.T) {
	w := halves(t)
	w.refuses = map[string]string{"ConfigMap/green-new": "ConfigMap/green-new is forbidden"}
	w.tagged("blue=100 green=0", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2, configMap("green-new", "1")))
	equal(t, `
release api in production, namespace shop, revision c00000000000
record intent
  ConfigMap/green-new
apply config
  ConfigMap/green-new (create)
apply workloads
  Deployment/api-green (update)
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
prune later
  ConfigMap/green-old
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
prune later
  ConfigMap/green-old
report Failed ApplyFailed: ConfigMap/green-new is forbidden
again in 1s
release api in production, namespace shop, revision c00000000000
prune later
  ConfigMap/green-old
report Failed ApplyFailed: ConfigMap/green-new is forbidden
again in 1s
`, w.pass())
}

func TestDecideRefusedSharedObjectKeepsAllWorkloadsAndNoWeight(t *testing.T) {
	w := halves(t)
	w.refuses = map[string]string{"ConfigMap/all": "ConfigMap/all is forbidden"}
	w.tagged("blue=100 green=0", append(sharedObjects(), configMap("all", "1")), tag("blue", "one", 2), tag("green", "two", 2))
	equal(t, `
release api in production, namespace shop, revision c00000000000
record intent
  ConfigMap/all
apply config
  ConfigMap/all (create)
apply workloads
  Deployment/api-green (update)
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
prune later
  ConfigMap/green-old
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision c00000000000
route blue=100 green=0
  Service/api (update)
  HTTPRoute/api (update)
prune later
  ConfigMap/green-old
report Failed ApplyFailed: ConfigMap/all is forbidden
again in 1s
release api in production, namespace shop, revision c00000000000
prune later
  ConfigMap/green-old
report Failed ApplyFailed: ConfigMap/all is forbidden
again in 1s
`, w.pass())
}

func TestDecideRefusedTagThatIsNotListedIsRetired(t *testing.T) {
	w := halves(t)
	w.refuses = map[string]string{"Deployment/api-green": noReplicas}
	w.tagged("blue=100", sharedObjects(), tag("blue", "one", 2), tag("green", "two", 2))
	equal(t, `
release api in production, namespace shop, revision c00000000000
apply workloads
  Deployment/api-green (update)
route blue=100
  Service/api (update)
  HTTPRoute/api (update)
prune later
  ConfigMap/green-old
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision c00000000000
route blue=100
  Service/api (update)
  HTTPRoute/api (update)
prune later
  ConfigMap/green-old
report Failed ApplyFailed: Deployment/api-green is invalid
again in 1s
release api in production, namespace shop, revision c00000000000
prune later
  ConfigMap/green-old
report Failed ApplyFailed: Deployment/api-green is invalid
again in 1s
`, w.pass())
	w.after(time.Minute)
	w.refuses = nil // no replicas: that is valid
	equal(t, `
release api in production, namespace shop, revision c00000000000
retire tag green
  Deployment/api-green (update)
prune later
  ConfigMap/green-old
report Ready: ConfigMap/green-old is pruned when nothing needs it
again in 15s
release api in production, namespace shop, revision c00000000000
prune
  ConfigMap/green-old
report Ready: 7 objects are as declared
release api in production, namespace shop, revision c00000000000
nothing to do
report Ready: 7 objects are as declared
`, w.pass())
}

func TestDecideRefusedUntaggedReleaseIsNotRouted(t *testing.T) {
	w := newWorld(t)
	w.untagged("", deployment("api", "one", 2), httpRoute())
	w.refuses = map[string]string{"Deployment/api": noReplicas}
	equal(t, `
release api in production, namespace shop, revision 9f8e7d6c5b4a
record intent
  Deployment/api
  HTTPRoute/api
apply workloads
  Deployment/api (create)
hold routes: the release is not ready: Deployment/api is being applied
report Waiting Applying: objects are being applied
again in 1s
release api in production, namespace shop, revision 9f8e7d6c5b4a
hold routes: the release is not ready: Deployment/api was refused
report Failed ApplyFailed: Deployment/api-green is invalid
again in 1s
`, w.pass())
}
