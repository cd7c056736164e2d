// Package reconciler makes a cluster equal to the environments repository,
// release by release. Start with New; Engine.Converge applies one commit to one
// environment and returns, Engine.Run follows a branch, Engine.PlanEnvironment
// tells what either would do.
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
// # What is known
//
// A pass asks the API server only for what it cannot know: an object that nothing
// watches, that is not as it was applied, or whose content matters and has changed.
// Else the newest of what a watch, a write or a read has told is what there is
// (docs/adr/0011). At rest, and for what has not changed, no request is sent.
//
// # Capacity
//
// The weight of a tag rises only when the tag can carry its new share. What is
// needed is taken from what serves now: a tag that does its work with r ready pods
// at w percent has shown that the whole traffic takes no more than
// ceil(r × 100 / w). The least of these numbers, over all tags that serve, is the
// whole W; the others have pods to spare. A share of p percent needs
// ceil(W × p / 100) pods, never less than one nor than the autoscaler's minimum.
// Who gains nothing may be idle at none where the minimum is 0.
// More than the tag may have (the autoscaler's maximum, or the replicas its manifest
// asks for) is awaited only where that is certainly too few; see demand. What is taken
// from tags without a ready pod reached nobody, and is given to a tag that is ready
// whatever it has (docs/adr/0016). Requests per second would be a better measure, but they are
// not known without a metrics server, while ready pods are what the autoscaler of
// the serving tag has just found right.
//
// A tag without requests has no load, so its autoscaler would never raise it to
// that size and the weight would wait for ever. So while a weight is rising the
// plan applies the tag's autoscaler with its minimum lifted to what is needed,
// and keeps it there for capacityGrace after the routes have moved, until load
// has come and the autoscaler can judge for itself; then the manifest's minimum
// returns. Every further rise computes its need anew. The lifted pods are an
// estimate of ours and no evidence: the autoscaler is annotated with the share it
// was lifted for, so that a tag which has grown stands for the W that it has grown
// from. Moving weights to and fro therefore does not make releases grow.
//
// # Held routes
//
// Where a weight may not rise the routes are held, and only that: they keep what
// they carry, and whoever deletes or edits one has it restored with those weights.
// A release that nothing is routed to yet starts with the tags that are ready,
// which then get all of it. What the routes carry is known from the status; what
// stands in the routes themselves, where anybody may have written it, only ever
// delays (see carriage).
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
