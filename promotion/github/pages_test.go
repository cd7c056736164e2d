package github

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFileURL(t *testing.T) {
	for url, want := range map[string]string{
		"":                        "https://github.com/shop/environments/blob/9f8e/builds/api/3f2a.yaml",
		"https://git.example.com": "https://git.example.com/shop/environments/blob/9f8e/builds/api/3f2a.yaml",
	} {
		site, err := Connect(Options{Repository: "shop/environments", URL: url, Token: "secret"})
		require.NoError(t, err)
		assert.Equal(t, want, site.FileURL("9f8e", "builds/api/3f2a.yaml"))
	}
}
