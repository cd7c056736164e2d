//go:build !linux

package main

import (
	"errors"
	"os"
)

// inMemory knows no file system in memory here.
func inMemory(string) bool { return false }

func holdDir(string) (*os.File, error) { return nil, errors.ErrUnsupported }
