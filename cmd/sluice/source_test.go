package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRepositoryIdentityIsTheSameForAllWaysToNameARepository(t *testing.T) {
	want := repositoryIdentity("https://github.com/shop/environments")
	assert.Regexp(t, "^[0-9a-f]{16}$", want)
	for _, name := range []string{
		"https://GitHub.com/shop/environments.git", "https://github.com:443/shop/environments/",
		"ssh://git@github.com/shop/environments.git", "ssh://github.com:22/shop/environments", "git@github.com:shop/environments.git",
	} {
		assert.Equal(t, want, repositoryIdentity(name), name)
	}
	different := map[string]string{}
	for _, name := range []string{
		"https://github.com/shop/environments", "https://github.com/bank/environments", "https://github.com/Shop/environments",
		"https://example.com/shop/environments", "https://github.com:8443/shop/environments", "/srv/shop/environments", "/srv/bank/environments",
	} {
		id := repositoryIdentity(name)
		assert.Empty(t, different[id], name)
		different[id] = name
	}
	assert.Equal(t, repositoryIdentity("/srv/shop.git"), repositoryIdentity("file:///srv/shop.git"))
}
