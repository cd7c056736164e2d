package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/reconciler"
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

func TestServiceAccounts(t *testing.T) {
	tests := map[string]struct {
		accounts []string
		user     string // of production
		err      string
	}{
		"none":                       {},
		"in the environment":         {accounts: []string{"production=applier"}, user: "system:serviceaccount:shop:applier"},
		"elsewhere":                  {accounts: []string{"production=sluice/applier"}, user: "system:serviceaccount:sluice:applier"},
		"of nobody":                  {accounts: []string{"applier"}, err: "is not ENVIRONMENT=[NAMESPACE/]NAME"},
		"empty":                      {accounts: []string{"production="}, err: "is not ENVIRONMENT=[NAMESPACE/]NAME"},
		"of an unknown environment":  {accounts: []string{"qa=applier"}, err: `environment "qa" is not served`},
		"twice":                      {accounts: []string{"production=a", "production=b"}, err: "given twice for environment production"},
		"of a namespace not given":   {accounts: []string{"staging=applier"}, err: "the repository cannot say in which namespace"},
		"a name that is no name":     {accounts: []string{"production=a:b"}, err: `"a:b"`},
		"a namespace that is absent": {accounts: []string{"production=/applier"}, err: `""`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			environments := []reconciler.EnvironmentConfig{{Name: "production", Namespace: "shop"}, {Name: "staging"}}
			err := actAs(environments, tt.accounts)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.user, environments[0].User)
		})
	}
}
