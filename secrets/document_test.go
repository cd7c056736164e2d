package secrets

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// edit opens a file for the test's environments.
func edit(t testing.TB, name string, data []byte, environments ...string) *Document {
	t.Helper()
	d, err := keysOf(t, environments...).Edit(t.Context(), name, data)
	require.NoError(t, err)
	return d
}

// written is what a document encrypts to.
func written(t testing.TB, d *Document) []byte {
	t.Helper()
	out, err := d.Encrypt()
	require.NoError(t, err)
	return out
}

// opened is the plaintext of a file.
func opened(t testing.TB, name string, data []byte, environments ...string) string {
	t.Helper()
	o, err := keysOf(t, environments...).Open(name, data)
	require.NoError(t, err)
	return string(o.Data)
}

func TestAnUnchangedFileIsNotWrittenAnew(t *testing.T) {
	for name, environments := range fixtures {
		sealed := fixture(t, "sops", name)
		d := edit(t, name, sealed, environments...)
		plain, err := d.Plaintext()
		require.NoError(t, err)
		assert.Equal(t, string(fixture(t, "opened", name)), string(plain), name)
		require.NoError(t, d.Replace(plain))
		assert.Equal(t, string(sealed), string(written(t, d)), name)
	}
}

var metadataLine = regexp.MustCompile(`(?i)lastmodified|mac\b`)

// Of a file in which one value is changed, the lines of that value and of what
// authenticates the whole change, and no others.
func TestUnchangedValuesKeepTheirCiphertext(t *testing.T) {
	for name, environments := range fixtures {
		t.Run(name, func(t *testing.T) {
			sealed := fixture(t, "sops", name)
			d := edit(t, name, sealed, environments...)
			plain, err := d.Plaintext()
			require.NoError(t, err)
			changed := swap(t, plain, "canary", "changed")
			require.NoError(t, d.Replace(changed))
			out := written(t, d)
			assert.Equal(t, string(changed), opened(t, name, out, environments...))
			var values, comments []string
			for line := range strings.Lines(string(sealed)) {
				switch kept := strings.Contains(string(out), line); {
				case strings.Contains(line, ",type:comment]") && !kept:
					comments = append(comments, line)
				case !metadataLine.MatchString(line) && !kept:
					values = append(values, line)
				}
			}
			assert.Len(t, values, 1)
			// SOPS puts a comment above an item and one beside it together, and takes
			// them apart when it reads the plaintext.
			if name != "values.yaml" && name != "maconly.yaml" {
				assert.Equal(t, strings.Count(string(sealed), "\n"), strings.Count(string(out), "\n"))
				assert.Empty(t, comments)
			}
			again := edit(t, name, out, environments...)
			require.NoError(t, again.Replace(plain))
			assert.Equal(t, string(plain), opened(t, name, written(t, again), environments...), "and back")
		})
	}
}

// What SOPS's own memory of values would change: equal items of a list, and numbers
// that an editor shows in another way.
func TestEqualItemsKeepTheirCiphertext(t *testing.T) {
	keys := keysOf(t, "development")
	const plain = "list: [twin, twin, other]\nratio: 1.0\nlast: one\n"
	sealed, err := keys.Encrypt(t.Context(), "a.yaml", []byte(plain), ruleFor(t, keys.Recipients()...))
	require.NoError(t, err)
	d := edit(t, "a.yaml", sealed, "development")
	require.NoError(t, d.Set("last", "two"))
	out := string(written(t, d))
	ciphertext := regexp.MustCompile(`ENC\[AES256_GCM,[^\n]*`)
	before, after := ciphertext.FindAllString(string(sealed), -1), ciphertext.FindAllString(out, -1)
	require.Len(t, after, 6)
	assert.Equal(t, before[:4], after[:4])
	assert.NotEqual(t, before[0], before[1])

	d = edit(t, "a.yaml", []byte(out), "development")
	shown, err := d.Plaintext()
	require.NoError(t, err)
	require.NoError(t, d.Replace(swap(t, shown, "- other", "- another")))
	out2 := ciphertext.FindAllString(string(written(t, d)), -1)
	assert.Equal(t, append(after[:2:2], after[3:5]...), append(out2[:2:2], out2[3:5]...))
}

func TestIndentationIsKept(t *testing.T) {
	keys := keysOf(t, "development")
	rule := ruleFor(t, keys.Recipients()...)
	for name, like := range map[string]string{"a.yaml": "sops:\n  mac: x\n", "a.json": "{\n  \"sops\": {"} {
		first, err := keys.NewDocument(t.Context(), name, rule)
		require.NoError(t, err)
		first.sealed = []byte(like)
		require.NoError(t, first.Set("a.b", "one"))
		require.NoError(t, first.Set("a.c", "two"))
		data := written(t, first)
		require.Regexp(t, `(?m)^  "?b"?: `, strings.ReplaceAll(string(data), "    ", "  "))
		d := edit(t, name, data, "development")
		require.NoError(t, d.Set("a.b", "other"))
		before, after := strings.Split(string(data), "\n"), strings.Split(string(written(t, d)), "\n")
		require.Len(t, after, len(before), name)
		changed := 0
		for i := range before {
			if before[i] != after[i] {
				changed++
			}
		}
		assert.Contains(t, []int{2, 3}, changed, "%s: the value, the code and, in another second, the time:\n%s", name, strings.Join(after, "\n"))
	}
}

func TestEditRefusesWhatWasTamperedWith(t *testing.T) {
	keys := keysOf(t, "development")
	_, err := keys.Edit(t.Context(), "values.yaml", swap(t, fixture(t, "sops", "values.yaml"), "plain note", "other note"))
	assert.EqualError(t, err, "values.yaml: the message authentication code does not match: the file was changed without sops")
	_, err = keys.Edit(t.Context(), "a.env", []byte("A=b\n"))
	assert.EqualError(t, err, "a.env: it is not encrypted")
	assertHint(t, err)
	_, err = keysOf(t, "production").Edit(t.Context(), "values.yaml", fixture(t, "sops", "values.yaml"))
	var none *NoKeyError
	assert.ErrorAs(t, err, &none)
	d := edit(t, "values.yaml", fixture(t, "sops", "values.yaml"), "development")
	for text, want := range map[string]string{
		"x: y\na: b: c\n": "values.yaml:2: it is not valid YAML",
		"sops: canary\n":  "values.yaml: the name sops is reserved for the metadata of SOPS",
		"":                "values.yaml: it is empty",
		"a: 1\na: canary": "values.yaml:2: a name is used twice",
	} {
		assert.EqualError(t, d.Replace([]byte(text)), want)
	}
	assert.Equal(t, string(fixture(t, "sops", "values.yaml")), string(written(t, d)), "it is left as it was")
}

func TestGet(t *testing.T) {
	tests := []struct{ file, name, want string }{
		{"secrets.env", "TOKEN", "canary-token-8fd2"},
		{"secrets.env", "CERT", `-----BEGIN TEST-----\ncanary-line-one\ncanary-line-two\n-----END TEST-----`},
		{"secrets.env", "EMPTY", ""},
		{"values.yaml", "pool.max", "849302"},
		{"values.yaml", "pool.enabled", "true"},
		{"values.yaml", "pool.ratio", "0.75"},
		{"values.yaml", "pool.since", "2026-11-21T10:00:00Z"},
		{"values.yaml", "pool.none", ""},
		{"values.yaml", "users[1].name", "canary-user-two"},
		{"values.yaml", `["users"][0]["roles"][1]`, "writer"},
		{"values.yaml", "motd", "canary first line\ncanary second line\n"},
		{"secret.yaml", "stringData.password", "canary-db-password"},
		{"secret.yaml", `data["tls.crt"]`, "Y2FuYXJ5LWNlcnQtYnl0ZXM="},
		{"config.json", "db.password", "canary-json-password"},
		{"app.ini", "database.host", "db.example.com"},
		{"token.bin", "", string(fixture(t, "plain", "token.bin"))},
	}
	for _, tt := range tests {
		got, err := edit(t, tt.file, fixture(t, "sops", tt.file), "development").Get(tt.name)
		require.NoError(t, err, tt.name)
		assert.Equal(t, tt.want, got, tt.name)
	}
}

func TestNameErrors(t *testing.T) {
	tests := []struct{ file, name, get, set string }{
		{"secrets.env", "NONE", "there is no such value", ""},
		{"secrets.env", "a b", "this is no name for a value of a dotenv file", "this is no name for a value of a dotenv file"},
		{"secrets.env", "sops_mac", "this is no name for a value of a dotenv file", "this is no name for a value of a dotenv file"},
		{"values.yaml", "pool", "it holds several values", "something else is in its place"},
		{"values.yaml", "pool.max.x", "there is no such value", "something else is in its place"},
		{"values.yaml", "users.name", "there is no such value", "something else is in its place"},
		{"values.yaml", "users[7]", "there is no such value", "something else is in its place"},
		{"values.yaml", "users[x]", "this is no name", "this is no name"},
		{"values.yaml", "a..b", "this is no name", "this is no name"},
		{"values.yaml", "", "this is no name", "this is no name"},
		{"values.yaml", "sops.mac", "the name sops is reserved for the metadata of SOPS", "the name sops is reserved for the metadata of SOPS"},
		{"secret.yaml", "kind", "which document of the file is meant cannot be told", "which document of the file is meant cannot be told"},
		{"app.ini", "a.b.c", "an INI file has values in sections", "an INI file has values in sections"},
		{"token.bin", "x", "a binary file is one value without names", "a binary file is one value without names"},
	}
	for _, tt := range tests {
		d := edit(t, tt.file, fixture(t, "sops", tt.file), "development")
		_, err := d.Get(tt.name)
		assert.EqualError(t, err, tt.file+": "+tt.name+": "+tt.get)
		assertHint(t, err)
		if tt.set != "" {
			err := d.Set(tt.name, "canary")
			assert.EqualError(t, err, tt.file+": "+tt.name+": "+tt.set)
			assertHint(t, err)
		}
		assert.Error(t, func() error {
			if tt.name == "pool" {
				return d.missing("pool") // a mapping is removed whole
			}
			return d.Unset(tt.name)
		}())
		assert.Equal(t, string(fixture(t, "sops", tt.file)), string(written(t, d)), "it is left as it was")
	}
}

// Values are set, read again, and removed again, in every format.
func TestSetAndUnset(t *testing.T) {
	tests := []struct{ file, name, value, plain string }{
		{"secrets.env", "TOKEN", "other", "TOKEN=other\n"},
		{"secrets.env", "NEW", `with "quotes" # and \n`, `NEW=with "quotes" # and \n` + "\n"},
		{"values.yaml", "pool.max", "5", "max: 5\n"},
		{"values.yaml", "pool.ratio", "0.5", "ratio: 0.5\n"},
		{"values.yaml", "pool.enabled", "false", "enabled: false\n"},
		{"values.yaml", "pool.min", "many", "min: many\n"},
		{"values.yaml", "pool.none", "some", "none: some\n"},
		{"values.yaml", "new.deep[0].name", "5", `- name: "5"` + "\n"},
		{"values.yaml", "users[2].name", "third", "    - name: third\n"},
		{"values.yaml", `new["a.b"]`, "two\nlines\n", "a.b: |\n        two\n        lines\n"},
		{"secret.yaml", "stringData.extra", "x1", "extra: x1\n"},
		{"config.json", "db.password", "other", `"password": "other"`},
		{"app.ini", "cache.url", "redis://cache/1", "url = redis://cache/1\n"},
		{"app.ini", "new.name", "x; y", "x; y"},
		{"token.bin", "", "other\n", "other\n"},
	}
	for _, tt := range tests {
		d := edit(t, tt.file, fixture(t, "sops", tt.file), "development")
		require.NoError(t, d.Set(tt.name, tt.value), tt.name)
		out := written(t, d)
		assert.NotContains(t, string(out), tt.plain, tt.name)
		assert.Contains(t, opened(t, tt.file, out, "development"), tt.plain, tt.name)
		again := edit(t, tt.file, out, "development")
		got, err := again.Get(tt.name)
		require.NoError(t, err, tt.name)
		assert.Equal(t, tt.value, got)
		if tt.name == "" {
			continue
		}
		require.NoError(t, again.Unset(tt.name), tt.name)
		_, err = again.Get(tt.name)
		var missing *NameError
		if assert.ErrorAs(t, err, &missing, tt.name) && !missing.Missing {
			assert.Contains(t, missing.Reason, "which document", tt.name)
		}
		opened(t, tt.file, written(t, again), "development")
	}
	for _, tt := range []struct{ file, name, value, want string }{
		{"secrets.env", "A", "canary\ntwo", "secrets.env: A: a dotenv file has no values of several lines"},
		{"values.yaml", "note_unencrypted", "canary", "values.yaml: note_unencrypted: the rule of the file leaves this value in plain text"},
		{"secret.yaml", "metadata.labels.team", "canary", "secret.yaml: metadata.labels.team: the rule of the file leaves this value in plain text"},
	} {
		d := edit(t, tt.file, fixture(t, "sops", tt.file), "development")
		err := d.Set(tt.name, tt.value)
		if err == nil {
			_, err = d.Encrypt()
		}
		assert.EqualError(t, err, tt.want)
		assertHint(t, err)
	}
}

// An INI file takes some values apart; a value that would come back as another is
// refused.
func TestSetNeverStoresAnotherValue(t *testing.T) {
	for _, value := range []string{"plain", " led by a space", "a # b", "a ; b", `"quoted"`, "`tick`", "two\nlines", "a=b", `back\slash`, `ends\`, "\"\"\"", "[x]", "%(name)s", ""} {
		for _, file := range []string{"app.ini", "secrets.env", "values.yaml", "config.json"} {
			name := map[string]string{"app.ini": "cache.url", "secrets.env": "TOKEN", "values.yaml": "motd", "config.json": "db.password"}[file]
			d := edit(t, file, fixture(t, "sops", file), "development")
			if err := d.Set(name, value); err != nil {
				assertHint(t, err)
				assert.Contains(t, []string{"app.ini", "secrets.env"}, file, value)
				continue
			}
			got, err := edit(t, file, written(t, d), "development").Get(name)
			require.NoError(t, err)
			assert.Equal(t, value, got, "%s: %q", file, value)
		}
	}
}

func TestNewDocument(t *testing.T) {
	keys := keysOf(t, "development")
	rule := ruleFor(t, keys.Recipients()...)
	for name, value := range map[string]string{"a.env": "TOKEN", "a.yaml": "stringData.TOKEN", "a.json": "a.b", "a.ini": "section.key", "a.bin": ""} {
		d, err := (*Keys)(nil).NewDocument(t.Context(), name, rule)
		require.NoError(t, err, name)
		plain, err := d.Plaintext()
		require.NoError(t, err)
		assert.Empty(t, plain, name)
		require.NoError(t, d.Set(value, "canary"), name)
		got, err := edit(t, name, written(t, d), "development").Get(value)
		require.NoError(t, err, name)
		assert.Equal(t, "canary", got, name)
	}
}

// Of a name that joinName writes, parseName reads the same steps.
func FuzzNames(ff *testing.F) {
	f := mutants.New(ff)
	for _, seed := range []string{"a.b[0]", `data["tls.crt"]`, "[0][1]", `a["\u0000"].b`, "a[", "a.[0]", ".a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		steps, ok := parseName(name)
		if !ok {
			return
		}
		again, ok := parseName(joinName(steps))
		require.True(t, ok, "%q", joinName(steps))
		require.Equal(t, steps, again)
	})
}

// Whatever an editor leaves is refused, or written so that it opens.
func FuzzReplace(ff *testing.F) {
	f := mutants.New(ff)
	for name := range fixtures {
		f.Add(name, fixture(f, "opened", name))
	}
	keys := keysOf(f, "development")
	rule := ruleFor(f, keys.Recipients()...)
	f.Fuzz(func(t *testing.T, name string, plain []byte) {
		d, err := keys.NewDocument(t.Context(), name, rule)
		require.NoError(t, err)
		if d.Replace(plain) != nil {
			return
		}
		out, err := d.Encrypt()
		if err != nil {
			return
		}
		_, err = keys.Open(name, out)
		require.NoError(t, err, "%q", plain)
	})
}
