// Package reconciler makes a cluster equal to the environments repository,
// release by release. Start with New; Engine.Converge applies one commit to one
// environment and returns, Engine.Run follows a branch, Engine.Plan tells what
// either would do.
//
// # One pass
//
// A release is passed over whenever something may have changed: a commit, an
// object in the cluster, a timer. One pass gathers all that is known of the
// release into an Input, decides by the pure function Decide what can be done
// now, does it, and reports. Where a plan has to wait (for pods, for requests to
// end, for another release) the pass ends; nothing ever blocks on health, so a
// broken release costs the others nothing, and a newer commit ends a wait by
// being the next input. Within a pass gathering happens once: what the API
// server answers to a write is the new state of that object, and Decide is asked
// again until it has nothing left to write.
//
// # Capacity
//
// The weight of a tag rises only when the tag can carry its new share. What is
// needed is taken from what serves now: of S ready replicas behind the routes, a
// share of p percent needs ceil(S × p / 100), never less than one nor than the
// autoscaler's minimum, never more than the tag may have (the autoscaler's
// maximum, or the replicas its manifest asks for). Requests per second would be
// a better measure, but they are not known without a metrics server, while ready
// replicas are what the autoscaler of the serving tag has just found right.
//
// A tag without requests has no load, so its autoscaler would never raise it to
// that size and the weight would wait for ever. So while a weight is rising the
// plan applies the tag's autoscaler with its minimum lifted to what is needed,
// and keeps it there for capacityGrace after the routes have moved, until load
// has come and the autoscaler can judge for itself; then the manifest's minimum
// returns.
//
// # Replicas
//
// Where the render holds a HorizontalPodAutoscaler or ScaledObject for a
// workload, spec.replicas is the autoscaler's and is never applied. What has to
// be written once (the autoscaler's minimum for a tag that comes back from zero,
// the present count when the field is handed over) is written by a field manager
// of its own, so that dropping the field from the main apply does not reset it.
//
// The package never writes to Git, never takes an object over that another
// release owns, and never deletes because of something it could not read.
package reconciler
