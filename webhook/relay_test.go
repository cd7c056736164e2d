package webhook

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/internal/mutants"
)

func TestRelay(t *testing.T) {
	commit := strings.Repeat("9f", 20)
	events := []Event{{Kind: Push, Ref: "refs/heads/main"}, {Kind: PullRequest, Number: 12}, {Kind: Check, Commit: commit}, {Kind: Anything}}
	text := Encode(append([]Event{{Kind: Ping}}, events...))
	assert.Equal(t, "push:refs/heads/main pull_request:12 check:"+commit+" anything", text)
	assert.Equal(t, events, Decode(text))
	assert.Empty(t, Decode(Encode(nil)))

	many := slices.Repeat([]Event{{Kind: PullRequest, Number: 1}}, MaxRelayed+1)
	assert.Equal(t, "anything", Encode(many))
	assert.Len(t, Decode(Encode(many[1:])), MaxRelayed)
	for _, hostile := range []string{
		"push:", "push:main", "pull_request:0", "pull_request:-1", "pull_request:99999999999", "pull_request:1x", "check:9f8e", "anything:else",
		"ping", "merge:12", ":", "\x00", strings.Repeat("anything ", MaxRelayed+1),
	} {
		assert.Equal(t, []Event{{Kind: Anything}}, Decode("pull_request:1 "+hostile), "%q", hostile)
	}
}

func FuzzDecode(ff *testing.F) {
	f := mutants.New(ff)
	f.Add("push:refs/heads/main pull_request:12 anything")
	f.Add("check:" + strings.Repeat("9f", 20))
	f.Fuzz(func(t *testing.T, text string) {
		events := Decode(text)
		assert.LessOrEqual(t, len(events), MaxRelayed)
		assert.Equal(t, events, Decode(Encode(events)), "what was understood is written as it was read")
	})
}
