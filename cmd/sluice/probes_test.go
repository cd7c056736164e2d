package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler"
)

func TestProbe(t *testing.T) {
	fine := []reconciler.Check{{Name: "lease", Note: "held"}, {Name: "watches"}}
	broken := append(fine, reconciler.Check{Name: "environment production", Problem: "no route\nto \x1b[31mhost"})
	for name, c := range map[string]struct {
		method, target string
		checks         []reconciler.Check
		code           int
		body           string
	}{
		"fine":             {http.MethodGet, "/readyz", fine, http.StatusOK, "ok\n"},
		"fine and verbose": {http.MethodGet, "/readyz?verbose", fine, http.StatusOK, "[+]lease: held\n[+]watches\nreadyz check passed\n"},
		"broken": {http.MethodGet, "/readyz", broken, http.StatusServiceUnavailable,
			"[+]lease: held\n[+]watches\n[-]environment production: no route to �[31mhost\nreadyz check failed\n"},
		"a write": {http.MethodPost, "/readyz", fine, http.StatusMethodNotAllowed, ""},
	} {
		w := httptest.NewRecorder()
		probe("readyz", func() []reconciler.Check { return c.checks }).ServeHTTP(w, httptest.NewRequest(c.method, c.target, nil))
		assert.Equal(t, c.code, w.Code, name)
		assert.Equal(t, c.body, w.Body.String(), name)
	}
}

func TestProbesAreServed(t *testing.T) {
	w := work{vitals: func() reconciler.Vitals { return reconciler.Vitals{} }}
	s := httptest.NewServer(newProbeServer(w.alive, w.ready).Handler)
	defer s.Close()
	for path, code := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable, "/metrics": http.StatusNotFound} {
		resp, err := http.Get(s.URL + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, code, resp.StatusCode, path)
	}
}
