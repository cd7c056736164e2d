// Package v1alpha1 is the Release custom resource: what the cluster knows of one
// component in one environment. Register it with AddToScheme.
//
// A Release is a report and a memory, not an order: people and programs write the
// environments repository, the reconciler writes Releases. Its status holds what
// the reconciler must remember from one pass to the next (the inventory, the
// traffic that the routes carry, since when it has been waiting) and what people
// ask for (conditions, digests, weights, what is not ready and why).
//
// The package holds data only. It never talks to a cluster.
package v1alpha1
