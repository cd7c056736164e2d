package testgitea

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRepository(t *testing.T) {
	s := Start(t)
	r := s.Repository(t)
	var branch struct {
		Commit struct {
			ID string `json:"id"`
		} `json:"commit"`
	}
	s.Must(t, http.MethodGet, r.API("/branches/main"), nil, &branch)
	assert.Len(t, branch.Commit.ID, 40)

	name, token := s.User(t, "read:user")
	request, err := s.request(t.Context(), http.MethodGet, "/user", nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "token "+token)
	var me struct {
		Login string `json:"login"`
	}
	_, err = send(request, &me)
	require.NoError(t, err)
	assert.Equal(t, name, me.Login)
}
