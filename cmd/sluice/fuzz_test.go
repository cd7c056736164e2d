package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// What is read as weights means the same when it is written again.
func FuzzWeights(ff *testing.F) {
	f := mutants.New(ff)
	for _, text := range []string{"blue=90,green=10", "blue=100", "blue=-1,=,x=1", "a=b=1", "blue=0x10", "blue=1e2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, ",")
		weights, err := parseWeights("--tags", args)
		if err != nil {
			assert.NotEmpty(t, hints(err))
			return
		}
		require.Len(t, weights, len(args))
		var again []string
		for i, w := range weights {
			assert.True(t, strings.HasPrefix(args[i], w.Tag+"="))
			again = append(again, fmt.Sprintf("%s=%d", w.Tag, w.Percent))
		}
		same, err := parseWeights("--tags", again)
		require.NoError(t, err)
		assert.Equal(t, weights, same)
	})
}

// No part of an address that is printed or compared holds a password, and whoever
// reads a repository, it is the same one.
func FuzzRemoteAddress(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("https", "ann", "git.example.com/shop/environments.git")
	f.Add("https", "ann?x", "git.example.com/shop/environments.git")
	f.Add("ssh", "git", "git.example.com:2222/shop/environments")
	f.Add("HTTP", "", "[::1]:80//shop/../x.git/?a=b#c")
	f.Fuzz(func(t *testing.T, scheme, user, rest string) {
		const secret = "hunter2-hunter2"
		if strings.Contains(scheme, "://") {
			return
		}
		raw := scheme + "://" + user + ":" + secret + "@" + rest
		a := remoteAddress(raw)
		assert.NotContains(t, fmt.Sprintf("%+v %s", a, a.name()), secret)
		if scheme != "file" && !strings.Contains(user, "/") {
			assert.Equal(t, repositoryIdentity(scheme+"://"+rest), repositoryIdentity(raw))
		}
	})
}
