package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A table fits the terminal: the widest columns are cut, messages are not, and
// where there is no terminal nothing is.
func TestTableFits(t *testing.T) {
	written := func(width int) string {
		var tab table
		tab.header("RELEASE", "RUNS", "MESSAGE")
		tab.row("api", "blue=a1b2c3d4e5f6", "a message that is longer than all the rest")
		tab.row("web", "", "short")
		tab.line("api: a line of text is as long as it is, to the end of the command")
		var b strings.Builder
		require.NoError(t, tab.write(&b, width))
		return b.String()
	}
	const line = "api: a line of text is as long as it is, to the end of the command\n"
	whole := `RELEASE   RUNS                MESSAGE
api       blue=a1b2c3d4e5f6   a message that is longer than all the rest
web       -                   short
` + line
	require.Equal(t, whole, written(0))
	require.Equal(t, whole, written(72))
	require.Equal(t, `RELEASE   RUNS                MESSAGE
api       blue=a1b2c3d4e5f6   a message that is l…
web       -                   short
`+line, written(50))
	require.Equal(t, `RELEASE   RUNS     MESSA…
api       blue=…   a mes…
web       -        short
`+line, written(10), "no narrower than can be read")
}
