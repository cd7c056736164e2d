package gitea

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFileURL(t *testing.T) {
	s := &Site{options: Options{URL: "https://git.example.com/forge", Owner: "shop", Name: "environments"}}
	assert.Equal(t, "https://git.example.com/forge/shop/environments/src/commit/9f8e/builds/api/3f2a.yaml", s.FileURL("9f8e", "builds/api/3f2a.yaml"))
}
