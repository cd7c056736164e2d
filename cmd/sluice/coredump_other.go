//go:build !linux

package main

// forbidCoreDumps does nothing: this system has no way that is known here.
func forbidCoreDumps() error { return nil }
