package envrepo

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Case and separators are no typing errors, but tell equally near names apart.
func TestNearestFolds(t *testing.T) {
	keys := []string{"CACHE_ADDR", "DATABASE_URL", "LOG_LEVEL"}
	for name, want := range map[string]string{
		"database-url": "DATABASE_URL", "DATABASE_URI": "DATABASE_URL", "cacheAddr": "CACHE_ADDR", "LOGLEVEL": "LOG_LEVEL",
		"_": "", "TOKEN": "", "CACHE_ADDR": "", "-.-": "",
	} {
		assert.Equal(t, want, Nearest(name, keys), name)
	}
	assert.Equal(t, "API_KEY", Nearest("API_KEi", []string{"api-key", "API_KEY", "apikey"}))
	assert.Equal(t, "api-key", Nearest("api-kei", []string{"api-key", "API_KEY", "apikey"}))
	assert.Equal(t, "namePrefix", Nearest("nameprefix", []string{"nameSuffix", "namePrefix"}))
	assert.Equal(t, "registry.example.com/shop/api", Nearest("registry.example.com/shop/ap1", []string{"nginx", "registry.example.com/shop/api"}))
	long := strings.Repeat("x", 200)
	assert.Empty(t, Nearest(long, []string{long + "y"}), "names are hostile input")
	assert.Empty(t, Nearest("x", []string{long}))
}
