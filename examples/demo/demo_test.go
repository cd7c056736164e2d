package main

import (
	"context"
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/promotion/github/githubtest"
)

// TestDemo plays the demo as `make demo` does. It needs the programs of `make
// tools` and `make build` in bin/.
func TestDemo(t *testing.T) { testDemo(t, nil) }

// TestDemoOnGitHub plays it with the same commands on a GitHub server: only the
// environment variables are others.
func TestDemoOnGitHub(t *testing.T) {
	server := githubtest.New(t)
	token := server.Token("demo", githubtest.Write)
	testDemo(t, &forgeHost{
		url: server.Create("shop/environments").URL(),
		env: []string{
			"SLUICE_FORGE=github", "SLUICE_GITHUB_URL=" + server.URL, "SLUICE_GITHUB_TOKEN=" + token,
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http." + server.URL + "/.extraHeader",
			"GIT_CONFIG_VALUE_0=Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+token)),
		},
	})
}

func testDemo(t *testing.T, host *forgeHost) {
	t.Chdir("../..")
	for _, program := range []string{"bin/sluice", "bin/devcluster"} {
		require.True(t, fileExists(program), "%s is missing: run `make tools build`", program)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	require.NoError(t, play(ctx, "bin", false, host))
}
