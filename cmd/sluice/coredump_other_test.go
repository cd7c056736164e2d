//go:build !linux

package main

// undumpable does nothing: see forbidCoreDumps.
func undumpable() {}
