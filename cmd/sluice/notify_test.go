package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNotifyServerCoalescesAndTellsNothing(t *testing.T) {
	n, err := newNotifyServer("127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(n.listener) }()
	url := "http://" + n.listener.Addr().String() + "/"

	for range 100 {
		resp, err := http.Post(url, "application/json", strings.NewReader(`{"ref":"refs/heads/main"}`))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
		require.Zero(t, resp.ContentLength)
	}
	require.Len(t, n.posted, 1, "100 requests are one look at the repository")

	resp, err := http.Get(url)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)

	require.NoError(t, n.server.Close())
	require.ErrorIs(t, <-served, http.ErrServerClosed)
}

func TestNotifyAddressIsLoopback(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":9292", "192.0.2.1:80", "example.com:80", "localhost:0", "[::]:80", "127.0.0.1"} {
		_, err := newNotifyServer(address)
		require.Error(t, err, address)
		require.Equal(t, exitUsage, exitCode(err), address)
	}
}
