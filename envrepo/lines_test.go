package envrepo

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLine(t *testing.T) {
	repo := openShop(t, "components/api/component.yaml", "# a comment\n"+header+"Component\nmetadata: {name: api}\ndependsOn:\n- db\n- [cache, queue]\n",
		"components/web/component.yaml", "a: [", "components/db/component.yaml", "text")
	const api = "components/api/component.yaml"
	for _, test := range []struct {
		file string
		at   []any
		want int
	}{
		{api, nil, 2},
		{api, []any{"metadata", "name"}, 4},
		{api, []any{"dependsOn", 0}, 6},
		{api, []any{"dependsOn", 1, 1}, 7},
		{api, []any{"dependsOn", 2}, 0},
		{api, []any{"dependsOn", -1}, 0},
		{api, []any{"dependsOn", "db"}, 0},
		{api, []any{"metadata", 0}, 0},
		{api, []any{"image"}, 0},
		{"components/web/component.yaml", nil, 0},
		{"components/db/component.yaml", []any{"dependsOn", 0}, 0},
		{"components/none.yaml", nil, 0},
	} {
		assert.Equal(t, test.want, repo.Line(test.file, test.at...), "%s %v", test.file, test.at)
	}
}
