// Package checkout finds the checkout of this repository that a test runs in, whose
// bin/ holds the programs that tests start. Call Root.
package checkout

import (
	"errors"
	"os"
	"path/filepath"
)

// Root is the folder of go.mod above the test's folder.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the test does not run inside the repository")
		}
		dir = parent
	}
}
