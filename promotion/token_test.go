package promotion

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTokenIsReplaced(t *testing.T) {
	t.Parallel()
	n, fail := 0, error(nil)
	token := NewToken(func(context.Context) (string, error) {
		n++
		return fmt.Sprintf(" token-%d\n", n), fail
	})
	for i := 1; i <= 6; i++ {
		got, err := token.Now(t.Context())
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint("token-", i), got)
	}
	assert.Equal(t, "6 *** 5 *** 2 token-2", token.Clean("6 token-6 5 token-5 2 token-2"), "an answer may be to what was sent before")

	fail = errors.New("no file")
	_, err := token.Now(t.Context())
	require.ErrorIs(t, err, fail)
	for _, bad := range []string{"", " \n", "two words", "two\nlines", "tökén"} {
		_, err := FixedToken(bad).Now(t.Context())
		require.ErrorIs(t, err, ErrNoToken, "%q", bad)
	}
}
