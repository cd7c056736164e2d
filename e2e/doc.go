// Package e2e measures what Sluice promises of traffic on a real gateway: `make
// e2e` runs it. It is a test and nothing to import. Without the build tag e2e
// there are only the figures of the last run and their table in docs/traffic.md,
// which a test keeps in step.
//
// Start reading at TestMain (namespace_test.go): where the tests run. Then: the
// world they run in (world_test.go), the inside of the simulated pods
// (pods_test.go), the requests (load_test.go). It imports nothing of Sluice: what
// is measured is the program sluice, as a user runs it.
package e2e
