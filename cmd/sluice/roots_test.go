package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func TestBuiltInRoots(t *testing.T) {
	t.Parallel()
	pool, err := builtInRoots()
	require.NoError(t, err)
	var constrained bool
	for root := range bundle.Roots() {
		constrained = constrained || root.Constraint != nil
	}
	assert.True(t, constrained, "Mozilla trusts some for certificates of before a date only: builtInRoots must keep that")
	assert.NotNil(t, pool)
}
