package promotion

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadable(t *testing.T) {
	for address, want := range map[string]bool{
		"https://git.example.com": false, "http://127.0.0.1:3000": false, "http://[::1]:3000": false, "http://localhost": false,
		"http://git.example.com": true, "http://127.0.0.1.example.com": true, "http://localhost.example.com": true, "http://10.0.0.1": true,
		"http://0.0.0.0": true, "ftp://localhost": true,
	} {
		u, err := url.Parse(address)
		require.NoError(t, err)
		assert.Equal(t, want, Readable(u), address)
	}
}
