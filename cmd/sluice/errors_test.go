package main

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a library panics with may be what it was given.
func TestAPanicIsToldWithoutWhatItSaid(t *testing.T) {
	t.Parallel()
	var held *string
	for name, command := range map[string]func() error{
		"a text":    func() error { panic("cannot read hunter2-of-a-panic") },
		"an error":  func() error { panic(errors.New("cannot read hunter2-of-a-panic")) },
		"of itself": func() error { return errors.New(*held) },
	} {
		err := unpanicked(command)
		require.Error(t, err, name)
		var out bytes.Buffer
		printError(&out, false, err)
		assert.NotContains(t, out.String(), "hunter2", name)
		assert.Contains(t, out.String(), "TestAPanicIsToldWithoutWhatItSaid", "%s: the stack says where", name)
		assert.Contains(t, out.String(), "hint: this is an error in sluice", name)
		assert.Equal(t, exitError, exitCode(err), name)
	}
	assert.NoError(t, unpanicked(func() error { return nil }))
}
