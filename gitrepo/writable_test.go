package gitrepo

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckWrite(t *testing.T) {
	t.Parallel()
	dir := bare(t, map[string]string{"a": "1"})
	before := git(t, dir, "for-each-ref")
	require.NoError(t, open(t, serveHTTP(t, dir, nil)).CheckWrite(t.Context()))
	readOnly := open(t, serveHTTP(t, dir, func(backend http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.Contains(req.URL.String(), "receive-pack") {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			backend.ServeHTTP(w, req)
		})
	}))
	var access *AccessError
	require.ErrorAs(t, readOnly.CheckWrite(t.Context()), &access)
	assert.Equal(t, before, git(t, dir, "for-each-ref"))
}
