package envrepo

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestGoesBack(t *testing.T) {
	for message, want := range map[string]bool{
		"roll back api in production to 3f2a9c0d41e7":                                                                 true,
		"Revert \"deploy api\"\n\nThis reverts commit 1.":                                                             true,
		"Merge pull request #12: Roll back api in production: 3f2a9c0d41e7":                                           true,
		"Merge pull request #12 from shop/sluice/promote/production/api\n\nRoll back api in production: 3f2a9c0d41e7": true,
		"Roll back api in production: 3f2a9c0d41e7 (#12)":                                                             true,
		"Promote api to production: 3f2a9c0d41e7":                                                                     false,
		"deploy api\n\nNot to\nroll back api":                                                                         false,
		"":                                                                                                            false,
	} {
		assert.Equal(t, want, GoesBack(message), message)
	}
}
