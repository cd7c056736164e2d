package secrets

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var ciphertexts = regexp.MustCompile(`ENC\[AES256_GCM,data:[^,]+,[^\]\n]*\]`)

func TestRotate(t *testing.T) {
	for name, environments := range fixtures {
		sealed := fixture(t, "sops", name)
		out, err := keysOf(t, environments...).Rotate(t.Context(), name, sealed)
		require.NoError(t, err, name)
		assert.Equal(t, string(fixture(t, "opened", name)), opened(t, name, out, environments...), name)
		before, after := ciphertexts.FindAllString(string(sealed), -1), ciphertexts.FindAllString(string(out), -1)
		require.NotEmpty(t, after, name)
		require.Len(t, after, len(before), name)
		for i := range before {
			assert.NotContains(t, after, before[i], "%s: a ciphertext stays", name)
		}
		was, err := Recipients(name, sealed)
		require.NoError(t, err)
		is, err := Recipients(name, out)
		require.NoError(t, err)
		assert.Equal(t, was, is, name)
	}
	_, err := keysOf(t, "production").Rotate(t.Context(), "values.yaml", fixture(t, "sops", "values.yaml"))
	var none *NoKeyError
	assert.ErrorAs(t, err, &none)
}

func TestUpdateKeys(t *testing.T) {
	development, production := keysOf(t, "development").Recipients()[0], keysOf(t, "production").Recipients()[0]
	for _, name := range []string{"secrets.env", "values.yaml", "config.json", "app.ini", "token.bin"} {
		sealed, keys := fixture(t, "sops", name), keysOf(t, "development")
		same, c, err := keys.UpdateKeys(t.Context(), name, sealed, ruleFor(t, development))
		require.NoError(t, err)
		assert.True(t, c.None())
		assert.Equal(t, string(sealed), string(same), "%s: nothing to do", name)

		both, c, err := keys.UpdateKeys(t.Context(), name, sealed, ruleFor(t, development, production))
		require.NoError(t, err)
		assert.Equal(t, KeyChange{Added: []string{production}}, c)
		assert.Equal(t, string(fixture(t, "opened", name)), opened(t, name, both, "production"))
		assert.Equal(t, ciphertexts.FindAllString(string(sealed), -1), ciphertexts.FindAllString(string(both), -1), "%s: values and code are kept", name)

		rule := ruleFor(t, production)
		foreseen, err := CompareKeys(name, both, rule)
		require.NoError(t, err)
		one, c, err := keys.UpdateKeys(t.Context(), name, both, rule)
		require.NoError(t, err)
		assert.Equal(t, KeyChange{Removed: []string{development}}, c)
		assert.Equal(t, c, foreseen)
		_, err = keys.Open(name, one)
		var none *NoKeyError
		assert.ErrorAs(t, err, &none, name)
	}
}

func TestUpdateKeysOfGroups(t *testing.T) {
	development, production := keysOf(t, "development").Recipients()[0], keysOf(t, "production").Recipients()[0]
	keys, sealed := keysOf(t, "development", "production"), fixture(t, "sops", "shamir.env")
	groups := func(threshold string, groups ...string) Rule {
		text := "shamir_threshold: " + threshold + ", key_groups: ["
		for i, g := range groups {
			if i > 0 {
				text += ", "
			}
			text += "{age: [" + g + "]}"
		}
		return ruleOf(t, text+"]")
	}
	c, err := CompareKeys("shamir.env", sealed, groups("2", development, production))
	require.NoError(t, err)
	assert.True(t, c.None())
	for name, rule := range map[string]Rule{
		"another order":   groups("2", production, development),
		"one group":       ruleFor(t, development, production),
		"other threshold": groups("1", development, production),
	} {
		c, err := CompareKeys("shamir.env", sealed, rule)
		require.NoError(t, err)
		assert.Equal(t, KeyChange{Regrouped: true}, c, name)
	}
	out, c, err := keys.UpdateKeys(t.Context(), "shamir.env", sealed, ruleFor(t, development, production))
	require.NoError(t, err)
	assert.True(t, c.Regrouped)
	assert.Equal(t, string(fixture(t, "opened", "shamir.env")), opened(t, "shamir.env", out, "production"))
	_, _, err = keys.UpdateKeys(t.Context(), "shamir.env", sealed, groups("3", development, production))
	assert.Error(t, err, "more groups are needed than there are")
}

// Keys of every kind: a rule that names them as the file does is no change, and a file
// goes over from each of them to age and back.
func TestUpdateKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	age := keysOf(t, "production")
	for _, kind := range keyKinds(t, t.TempDir()) {
		t.Run(kind.name, func(t *testing.T) {
			keys := load(t, kind.sources)
			keys.Add(age)
			rule := ruleOf(t, kind.rule)
			sealed, err := keys.Encrypt(t.Context(), "s.env", []byte("TOKEN=canary\n"), rule)
			require.NoError(t, err)
			c, err := CompareKeys("s.env", sealed, rule)
			require.NoError(t, err)
			assert.Equal(t, KeyChange{}, c)
			over, c, err := keys.UpdateKeys(t.Context(), "s.env", sealed, ruleFor(t, age.Recipients()...))
			require.NoError(t, err)
			assert.Equal(t, age.Recipients(), c.Added)
			assert.Len(t, c.Removed, 1)
			back, _, err := keys.UpdateKeys(t.Context(), "s.env", over, rule)
			require.NoError(t, err)
			o, err := load(t, kind.sources).Open("s.env", back)
			require.NoError(t, err)
			assert.Equal(t, "TOKEN=canary\n", string(o.Data))
			turned, err := keys.Rotate(t.Context(), "s.env", back)
			require.NoError(t, err)
			o, err = load(t, kind.sources).Open("s.env", turned)
			require.NoError(t, err)
			assert.Equal(t, "TOKEN=canary\n", string(o.Data))
		})
	}
}

func TestRulesBelow(t *testing.T) {
	rules, err := ParseRules(".sops.yaml", []byte(`creation_rules:
- {path_regex: ^shop/environments/production/.*secrets\.env$, age: `+keysOf(t, "production").Recipients()[0]+`}
- {path_regex: ^shop/, age: `+keysOf(t, "development").Recipients()[0]+`}
`))
	require.NoError(t, err)
	below := rules.Below("shop")
	for file, environment := range map[string]string{"environments/production/api/secrets.env": "production", "environments/production/api/x.yaml": "development"} {
		rule, ok := below.For(file)
		require.True(t, ok)
		assert.Equal(t, keysOf(t, environment).Recipients(), rule.Recipients())
		_, ok = rules.For(file)
		assert.False(t, ok)
		assert.Equal(t, environment == "production", below.Demands(file))
	}
	_, ok := (*Rules)(nil).Below("shop").For("a")
	assert.False(t, ok)
}

// What is written here after a change the sops command reads, and what it changes is
// read here: in every format, partly encrypted files and several documents too.
func TestTheSopsCommandAndWeChangeEachOthersFiles(t *testing.T) {
	t.Parallel()
	kinds := keyKinds(t, t.TempDir())
	kind := kinds[slices.IndexFunc(kinds, func(k keyKind) bool { return k.name == "development.agekey" })]
	command, keys := newSops(t, kind), load(t, kind.sources)
	both := ruleOf(t, "age: ["+keys.Recipients()[0]+", "+keysOf(t, "production").Recipients()[0]+"]")
	for _, tt := range []struct{ file, rule, ours, theirs string }{
		{"secrets.env", "", "TOKEN", `["TOKEN"]`},
		{"values.yaml", "", "users[0].name", `["users"][0]["name"]`},
		{"values.yaml", "mac_only_encrypted: true, ", "motd", ""},
		{"values.yaml", "unencrypted_comment_regex: user, ", "pool.max", ""},
		{"secret.yaml", "encrypted_regex: ^(data|stringData)$, ", "stringData.password", `["stringData"]["password"]`},
		{"config.json", "", "db.password", `["db"]["password"]`},
		{"config.json", "encrypted_suffix: word, ", "db.password", ""},
		{"app.ini", "", "database.password", `["database"]["password"]`},
		{"token.bin", "", "", ""},
	} {
		name := tt.file
		sealed := command.encrypt(t, tt.rule+kind.rule, name, fixture(t, "plain", name))
		d, err := keys.Edit(t.Context(), name, sealed)
		require.NoError(t, err, name)
		require.NoError(t, d.Set(tt.ours, "changed-here"), name)
		ours := written(t, d)
		o, err := keys.Open(name, ours)
		require.NoError(t, err, name)
		assert.Contains(t, string(o.Data), "changed-here", name)

		added, _, err := keys.UpdateKeys(t.Context(), name, ours, both)
		require.NoError(t, err, name)
		turned, err := keys.Rotate(t.Context(), name, added)
		require.NoError(t, err, name)
		for _, changed := range [][]byte{ours, turned} {
			assert.Equal(t, string(o.Data), string(command.decrypt(t, name, changed)), name)
		}
		if tt.theirs == "" {
			continue
		}
		file := put(t, command.dir, name, string(ours))
		command.run(t, "set", file, tt.theirs, `"changed-there"`)
		theirs, err := os.ReadFile(file)
		require.NoError(t, err)
		d, err = keys.Edit(t.Context(), name, theirs)
		require.NoError(t, err, name)
		got, err := d.Get(tt.ours)
		require.NoError(t, err, name)
		assert.Equal(t, "changed-there", got, name)
	}
}
