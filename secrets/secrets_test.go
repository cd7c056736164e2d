package secrets

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/mutants"
)

// keysOf loads the test-only keys of the named environments.
func keysOf(t testing.TB, names ...string) *Keys {
	t.Helper()
	all := &Keys{}
	for _, n := range names {
		k, err := LoadAgeKeys(filepath.Join("testdata", n+".agekey"))
		require.NoError(t, err)
		all.Add(k)
	}
	return all
}

func fixture(t testing.TB, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	require.NoError(t, err)
	return data
}

// fixtures are the files made by the sops command, and the keys that open them.
var fixtures = map[string][]string{
	"secrets.env":    {"development"},
	"both.env":       {"production"},
	"production.env": {"production"},
	"shamir.env":     {"development", "production"},
	"opaque.env":     {"development"},
	"values.yaml":    {"development"},
	"maconly.yaml":   {"development"},
	"comments.yaml":  {"development"},
	"secret.yaml":    {"development"},
	"config.json":    {"development"},
	"suffix.json":    {"development"},
	"app.ini":        {"development"},
	"token.bin":      {"development"},
}

func TestOpenReadsWhatTheCommandWrote(t *testing.T) {
	entries, err := os.ReadDir("testdata/sops")
	require.NoError(t, err)
	require.Len(t, entries, len(fixtures), "every fixture is listed")
	for name, keys := range fixtures {
		t.Run(name, func(t *testing.T) {
			o, err := keysOf(t, keys...).Open("environments/x/"+name, fixture(t, "sops", name))
			require.NoError(t, err)
			assert.Equal(t, string(fixture(t, "opened", name)), string(o.Data))
			assert.True(t, o.Encrypted)
			assert.False(t, o.Keyless)
		})
	}
}

func TestOpenValues(t *testing.T) {
	tests := map[string][]string{
		"secrets.env": {
			`-----BEGIN TEST-----\ncanary-line-one\ncanary-line-two\n-----END TEST-----`,
			"-----BEGIN TEST-----\ncanary-line-one\ncanary-line-two\n-----END TEST-----",
			"postgres://shop:canary-db-password@db.example.com/shop?sslmode=require",
			`"canary quoted value"`,
			"canary-token-8fd2",
		},
		"values.yaml": {
			`canary first line\ncanary second line\n`,
			"canary first line\ncanary second line\n",
			"canary first line\ncanary second line",
			"canary-user-one", "canary-user-two", "849302", "reader", "writer",
		},
		"secret.yaml": {
			"postgres://db.example.com/shop", "Y2FuYXJ5LWNlcnQtYnl0ZXM=", "Y2FuYXJ5LWtleS1ieXRlcw==", "canary-db-password",
		},
		"suffix.json": {"canary-json-password"},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			o, err := keysOf(t, "development").Open(name, fixture(t, "sops", name))
			require.NoError(t, err)
			assert.Equal(t, want, o.Values)
		})
	}
}

func TestOpenReturnsPlainFilesAsTheyAre(t *testing.T) {
	for _, k := range []*Keys{nil, {}, keysOf(t, "development")} {
		for _, name := range []string{"secrets.env", "values.yaml", "config.json", "app.ini", "token.bin"} {
			data := fixture(t, "plain", name)
			o, err := k.Open(name, data)
			require.NoError(t, err)
			assert.Equal(t, Opened{Data: data}, o)
			o, err = OpenKeyless(name, data)
			require.NoError(t, err)
			assert.Equal(t, Opened{Data: data}, o)
		}
	}
}

func TestOpenKeyless(t *testing.T) {
	tests := map[string]string{
		"secrets.env": `# (encrypted)
DATABASE_URL=(encrypted)
TOKEN=(encrypted)
QUOTED=(encrypted)
CERT=(encrypted)
EMPTY=
PORT=(encrypted)
ENABLED=(encrypted)
REGION_unencrypted=eu-west-1
`,
		"secret.yaml": `apiVersion: v1
kind: Secret
metadata:
    name: api-db
    labels:
        app.kubernetes.io/name: api
stringData:
    # (encrypted)
    password: (encrypted)
    url: (encrypted)
---
apiVersion: v1
kind: Secret
metadata:
    name: api-tls
type: kubernetes.io/tls
data:
    tls.crt: (encrypted)
    tls.key: (encrypted)
`,
		"values.yaml": `# (encrypted)
pool:
    min: (encrypted)
    max: (encrypted)
    ratio: (encrypted)
    enabled: (encrypted)
    since: (encrypted)
    none: null
users:
    # (encrypted)
    - name: (encrypted)
      roles:
        - (encrypted)
        - (encrypted)
    # (encrypted)
    - name: (encrypted) # (encrypted)
      roles: []
motd: (encrypted)
note_unencrypted: plain note
`,
		"suffix.json": `{
	"listen": ":8080",
	"db": {
		"password": "(encrypted)",
		"pool": 12,
		"tls": true,
		"big": 9007199254740993
	},
	"peers": [
		"canary-peer-one",
		"canary-peer-two",
		null,
		3.5
	],
	"note_unencrypted": "plain note"
}
`,
		"app.ini": `;  (encrypted)
[database]
password = (encrypted)
host     = (encrypted)

[cache]
url = (encrypted)
`,
		"token.bin":  "(encrypted)",
		"opaque.env": "(encrypted)",
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			o, err := OpenKeyless(name, fixture(t, "sops", name))
			require.NoError(t, err)
			assert.Equal(t, want, string(o.Data))
			assert.True(t, o.Encrypted)
			assert.True(t, o.Keyless)
			assert.Empty(t, o.Values)
		})
	}
}

func TestNames(t *testing.T) {
	// Those with a star are encrypted.
	tests := map[string][]string{
		"secrets.env": {"DATABASE_URL*", "TOKEN*", "QUOTED*", "CERT*", "EMPTY", "PORT*", "ENABLED*", "REGION_unencrypted"},
		"secret.yaml": {
			"apiVersion", "kind", "metadata.name", `metadata.labels["app.kubernetes.io/name"]`,
			"stringData.password*", "stringData.url*", "type", `data["tls.crt"]*`, `data["tls.key"]*`,
		},
		"config.json":   {"listen*", "db.password*", "db.pool*", "db.tls*", "db.big*", "peers[0]*", "peers[1]*", "peers[2]", "peers[3]*", "note_unencrypted"},
		"app.ini":       {"database.password*", "database.host*", "cache.url*"},
		"token.bin":     nil,
		"comments.yaml": {"pool.min", "pool.max", "pool.ratio", "pool.enabled", "pool.since", "pool.none", "users[0].name*", "users[0].roles[0]*", "users[0].roles[1]*", "users[1].name", "motd", "note_unencrypted"},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			sealed, err := Names(name, fixture(t, "sops", name))
			require.NoError(t, err)
			var got []string
			for _, n := range sealed {
				if n.Encrypted {
					n.Name += "*"
				}
				got = append(got, n.Name)
			}
			assert.Equal(t, want, got)
			if name == "comments.yaml" {
				return
			}
			plain, err := Names(name, fixture(t, "plain", name))
			require.NoError(t, err)
			for i := range sealed {
				sealed[i].Encrypted = false
			}
			assert.Equal(t, sealed, plain)
		})
	}
	_, err := Names("x.env", []byte("not a line\n"))
	assert.EqualError(t, err, "x.env:1: the line is neither NAME=value nor a comment")
}

func TestEncrypt(t *testing.T) {
	dev, prod := keysOf(t, "development"), keysOf(t, "production")
	recipients := append(dev.Recipients(), prod.Recipients()...)
	for name, opened := range map[string]string{
		"secrets.env": "secrets.env", "values.yaml": "values.yaml", "secret.yaml": "secret.yaml",
		"config.json": "config.json", "app.ini": "app.ini", "token.bin": "token.bin",
	} {
		t.Run(name, func(t *testing.T) {
			out, err := (*Keys)(nil).Encrypt(t.Context(), name, fixture(t, "plain", name), ruleFor(t, recipients...))
			require.NoError(t, err)
			assert.True(t, IsEncrypted(name, out))
			assert.NotContains(t, string(out), "canary")
			for _, k := range []*Keys{dev, prod} {
				o, err := k.Open(name, out)
				require.NoError(t, err)
				assert.Equal(t, string(fixture(t, "opened", opened)), string(o.Data))
			}
		})
	}
}

// ruleFor encrypts every value for age recipients.
func ruleFor(t testing.TB, recipients ...string) Rule {
	t.Helper()
	return ruleOf(t, "age: ["+strings.Join(recipients, ", ")+"]")
}

func TestEncryptErrors(t *testing.T) {
	dev := ruleFor(t, keysOf(t, "development").Recipients()...)
	tests := []struct {
		name, path, data string
		rule             Rule
		want             string
	}{
		{"no rule", "a.env", "A=b\n", Rule{}, "no recipient was given"},
		{"encrypted already", "secrets.env", string(fixture(t, "sops", "secrets.env")), dev, "secrets.env: it is encrypted already"},
		{"reserved name", "a.yaml", "sops: {}\na: b\n", dev, "a.yaml: the name sops is reserved for the metadata of SOPS"},
		{"empty YAML", "a.yaml", "", dev, "a.yaml: it is empty"},
		{"bad YAML", "a.yaml", "a: b\nc: canary: d\n", dev, "a.yaml:2: it is not valid YAML"},
		{"a name twice", "a.yaml", "a: b\n---\na: b\na: canary\n", dev, "a.yaml:4: a name is used twice"},
		{"a number as name", "a.yaml", "1: canary\n", dev, "a.yaml:1: a name is not a string: quote it"},
		{"a name twice in dotenv", "a.env", "A=b\n#A=c\nA=canary\n", dev, "a.env:3: a name is used twice"},
		{"a name twice in INI", "a.ini", "[x]\na = b\n[y]\na = b\nc: d\nc = canary\n", dev, "a.ini: a name is used twice in a section"},
		{"a name twice in JSON", "a.json", "{\"a\": {\"b\": 1}, \"c\": [{\"b\": \"a\"}, \"c\", \"c\"],\n\"a\": \"canary\"}", dev, "a.json:2: a name is used twice"},
		{"a name twice deep in JSON", "a.json", "{\"a\": [1, {\"b\": [], \"b\": 1e999}]}", dev, "a.json:1: a name is used twice"},
		{"bad dotenv", "a.env", "A=b\ncanary\n", dev, "a.env:2: the line is neither NAME=value nor a comment"},
		{"bad JSON", "a.json", `{"a": canary}`, dev, "a.json: it is not valid JSON"},
		{"JSON list", "a.json", `["canary"]`, dev, "a.json: it is not valid JSON"},
		{"too large", "a.bin", strings.Repeat("x", MaxSize+1), dev, "a.bin: it is larger than 5 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := (*Keys)(nil).Encrypt(t.Context(), tt.path, []byte(tt.data), tt.rule)
			require.Nil(t, out)
			assert.EqualError(t, err, tt.want)
			assertHint(t, err)
		})
	}
}

func assertHint(t *testing.T, err error) {
	t.Helper()
	h, ok := err.(interface{ Hint() string })
	require.True(t, ok, "%T has a hint", err)
	assert.NotEmpty(t, h.Hint())
	assert.NotContains(t, h.Hint(), "\n")
}

// swap replaces old by new, which must change data.
func swap(t *testing.T, data []byte, old, new string) []byte {
	t.Helper()
	out := bytes.Replace(data, []byte(old), []byte(new), 1)
	require.NotEqual(t, string(data), string(out))
	return out
}

// line returns the first line that starts with prefix, with its newline.
func line(t *testing.T, data []byte, prefix string) string {
	t.Helper()
	for l := range bytes.Lines(data) {
		if bytes.HasPrefix(bytes.TrimLeft(l, " "), []byte(prefix)) {
			return string(l)
		}
	}
	t.Fatalf("no line %s", prefix)
	return ""
}

func TestOpenErrors(t *testing.T) {
	dev := keysOf(t, "development")
	devKey, prodKey := dev.Recipients()[0], keysOf(t, "production").Recipients()[0]
	env, yml := fixture(t, "sops", "secrets.env"), fixture(t, "sops", "values.yaml")
	js, bin := fixture(t, "sops", "config.json"), fixture(t, "sops", "token.bin")
	vault := `"hc_vault": [{"vault_address": "http://127.0.0.1:1", "engine_path": "e", "key_name": "k", ` +
		`"created_at": "2026-01-01T00:00:00Z", "enc": "vault:v1:x"}], "age": `
	var metadata []byte
	for i := range 1001 {
		metadata = fmt.Appendf(metadata, "sops_x%d=\n", i)
	}
	const mismatch = ": the message authentication code does not match: the file was changed without sops"
	const failing = " fails authentication: the file was changed without sops"
	const noKey = ": no key opens it: it is encrypted for "
	tests := []struct {
		name string
		keys *Keys
		path string
		data []byte
		want string
	}{
		{"nil keys", nil, "s.env", env, "s.env" + noKey + devKey},
		{"no keys", &Keys{}, "s.env", env, "s.env" + noKey + devKey},
		{"another key", keysOf(t, "production"), "s.env", env, "s.env" + noKey + devKey},
		{"one key group of two", dev, "s.env", fixture(t, "sops", "shamir.env"), "s.env" + noKey + devKey + ", " + prodKey},
		{"only other key types", dev, "c.json", swap(t, js, `"age": `, strings.Replace(vault, `, "age": `, `, "x": `, 1)),
			"c.json" + noKey + "http://127.0.0.1:1/v1/e/keys/k"},
		{"a changed code", dev, "s.env", swap(t, env, "sops_mac=ENC[AES256_GCM,data:", "sops_mac=ENC[AES256_GCM,data:AAAA"), "s.env" + mismatch},
		{"an empty code", dev, "s.env", swap(t, env, line(t, env, "sops_mac="), "sops_mac=\n"), "s.env" + mismatch},
		{"another time", dev, "s.env", swap(t, env, "sops_lastmodified=2026", "sops_lastmodified=2025"), "s.env" + mismatch},
		{"a changed plain value", dev, "s.env", swap(t, env, "eu-west-1", "us-east-1"), "s.env" + mismatch},
		{"a removed value", dev, "s.env", swap(t, env, line(t, env, "TOKEN="), ""), "s.env" + mismatch},
		{"a renamed value", dev, "s.env", swap(t, env, "TOKEN=", "TOKEN2="), "s.env: TOKEN2" + failing},
		{"a changed value", dev, "v.yaml", swap(t, yml, "max: ENC[AES256_GCM,data:", "max: ENC[AES256_GCM,data:AAAA"), "v.yaml: pool.max" + failing},
		// The type is not authenticated; the parser's error would quote the value.
		{"a string as a number", dev, "s.env", []byte(strings.ReplaceAll(string(env), "type:str]", "type:int]")), "s.env: DATABASE_URL" + failing},
		{"a string as a comment", dev, "s.env", []byte(strings.Replace(string(env), "type:str]", "type:comment]", 1)), "s.env" + mismatch},
		// SOPS puts the value into a map by content, and panics.
		{"a string as bytes", dev, "s.env", []byte(strings.Replace(string(env), "type:str]", "type:bytes]", 1)),
			"s.env: it is not a well-formed SOPS file (a library panicked on it)"},
		{"a value in plain text", dev, "s.env", swap(t, env, line(t, env, "TOKEN="), "TOKEN=canary\n"),
			"s.env: TOKEN: the value is not encrypted although the file says it is"},
		{"cut off before the metadata", dev, "v.yaml", yml[:bytes.Index(yml, []byte("sops:"))],
			"v.yaml:1: it holds values that SOPS encrypted but no SOPS metadata: it is cut off or a part of another file"},
		{"cut off in the metadata", dev, "v.yaml", yml[:bytes.Index(yml, []byte("    lastmodified"))],
			"v.yaml:1: it holds values that SOPS encrypted but no SOPS metadata: it is cut off or a part of another file"},
		{"JSON cut off", dev, "c.json", js[:len(js)-10],
			"c.json:2: it holds values that SOPS encrypted but no SOPS metadata: it is cut off or a part of another file"},
		{"binary cut off", dev, "t.bin", bin[:len(bin)/2],
			"t.bin:2: it holds values that SOPS encrypted but no SOPS metadata: it is cut off or a part of another file"},
		{"broken YAML", dev, "v.yaml", swap(t, yml, "users:\n", "users: canary: x\n"), "v.yaml:9: it is not valid YAML"},
		{"a name twice", dev, "v.yaml", swap(t, yml, "motd:", "users:"), "v.yaml:18: a name is used twice"},
		{"a name twice in dotenv", dev, "s.env", append(bytes.Clone(env), line(t, env, "TOKEN=")...),
			fmt.Sprintf("s.env:%d: a name is used twice", bytes.Count(env, []byte("\n"))+1)},
		{"a name twice in JSON", dev, "c.json", swap(t, js, "{", "{\"sops\": 1,\n"), "c.json:" + strconv.Itoa(lineOf(js, []byte("\t\"sops\""))+1) + ": a name is used twice"},
		{"an alias bomb", dev, "v.yaml", append([]byte("a: &a [x]\nb: [*a, *a]\n"), yml...), "v.yaml:1: YAML anchors and aliases are not allowed in a SOPS file"},
		{"a self-reference", dev, "v.yaml", append([]byte("---\na: &a {b: *a}\n"), yml...), "v.yaml:2: YAML anchors and aliases are not allowed in a SOPS file"},
		{"deep metadata", dev, "s.env", append([]byte("sops_a"+strings.Repeat("__map_x", 100)+"=y\n"), env...), "s.env:1: its SOPS metadata is too deep or too large"},
		{"much metadata", dev, "s.env", append(metadata, env...), "s.env:1001: its SOPS metadata is too deep or too large"},
		{"unreadable metadata", dev, "s.env", []byte("A=b\nsops_mac=x\n"), "s.env: its SOPS metadata cannot be read"},
		{"a long rule", dev, "c.json", swap(t, js, `"unencrypted_suffix": "_unencrypted"`, `"encrypted_regex": "`+strings.Repeat("x", 1025)+`"`),
			"c.json: its rule for what is encrypted is longer than 1 KiB"},
		{"many keys", dev, "c.json", swap(t, js, `"age": [`, `"age": [`+strings.Repeat(`{"recipient": "age1x", "enc": "x"},`, 101)),
			"c.json: it names more than 100 keys"},
		{"too large", dev, "s.env", append(bytes.Repeat([]byte("#\n"), MaxSize/2), env...), "s.env: it is larger than 5 MiB"},
		{"fifty megabytes", dev, "v.yaml", append(bytes.Clone(yml), bytes.Repeat([]byte("#\n"), 25<<20)...), "v.yaml: it is larger than 5 MiB"},
		{"an age plugin", keysOf(t, "production"), "c.json", swap(t, js, devKey, "age1yubikey1qwt50d05nh5vutpdzmlg"),
			"c.json" + noKey + "age1yubikey1qwt50d05nh5vutpdzmlg"},
		{"long INI", dev, "a.ini", append(bytes.Repeat([]byte(";\n"), 10_001), fixture(t, "sops", "app.ini")...), "a.ini: it has more than 10,000 lines"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := tt.keys.Open(tt.path, tt.data)
			assert.EqualError(t, err, tt.want)
			assert.Equal(t, Opened{}, o)
			assertHint(t, err)
			assertNoLeak(t, err)
		})
	}
}

func assertNoLeak(t *testing.T, err error) {
	t.Helper()
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		assert.NotContains(t, text, "canary")
		assert.NotContains(t, text, "AGE-SECRET-KEY")
	}
}

// SOPS reads JSON with unbounded recursion: without the check this test ends
// the process, which no recover can prevent.
func TestOpenDeepJSON(t *testing.T) {
	deep := []byte(`{"sops": {"mac": "x"}, "a": ` + strings.Repeat("[", MaxSize-1000) + "}")
	_, err := OpenKeyless("a.json", deep)
	require.NoError(t, err, "not a SOPS file: it is not JSON")
	_, err = (*Keys)(nil).Encrypt(t.Context(), "a.json", deep, ruleFor(t, keysOf(t, "development").Recipients()...))
	assert.EqualError(t, err, "a.json: it is not valid JSON")
}

// SOPS writes JSON in quadratic time.
func TestOpenLargeJSON(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"sops": {"mac": "x", "lastmodified": "2026-01-01T00:00:00Z", "age": [{"recipient": "age1x", "enc": "x"}]}`)
	for i := range 200_000 {
		fmt.Fprintf(&b, `, "k%d": 1`, i)
	}
	b.WriteString("}")
	o, err := OpenKeyless("a.json", []byte(b.String()))
	require.NoError(t, err)
	assert.True(t, bytes.HasSuffix(o.Data, []byte("\t\"k199999\": 1\n}\n")))
}

func TestOpenCutOffAnywhere(t *testing.T) {
	keys := keysOf(t, "development", "production")
	for name := range fixtures {
		data := fixture(t, "sops", name)
		for n := 0; n < len(data)-1; n += 97 {
			o, err := keys.Open(name, data[:n])
			if err != nil {
				assertNoLeak(t, err)
				continue
			}
			if o.Encrypted { // only the last lines of the metadata are lost
				require.Equal(t, string(fixture(t, "opened", name)), string(o.Data), "%s at %d", name, n)
			}
		}
	}
}

// No key but the given ones is used, no program is run, no address is called. A program
// was run for a key that the repository brought in Flux CVE-2022-24817.
func TestAttackAmbientKeys(t *testing.T) {
	called, address := listen(t)
	ran := hostileEnvironment(t, address)
	vault := fmt.Sprintf(`"hc_vault": [{"vault_address": "http://%s", "engine_path": "e", "key_name": "k", `+
		`"created_at": "2026-01-01T00:00:00Z", "enc": "vault:v1:x"}], "age": `, address)
	js := swap(t, fixture(t, "sops", "config.json"), `"age": `, vault)

	for _, k := range []*Keys{nil, {}, keysOf(t, "production")} {
		var want *NoKeyError
		_, err := k.Open("secrets.env", fixture(t, "sops", "secrets.env"))
		require.ErrorAs(t, err, &want)
		_, err = k.Open("config.json", js)
		require.ErrorAs(t, err, &want)
		assert.Contains(t, want.Keys, "http://"+address+"/v1/e/keys/k")
	}
	o, err := keysOf(t, "development").Open("config.json", js)
	require.NoError(t, err, "a Vault key beside ours is no hindrance")
	assert.True(t, o.Encrypted)

	// The same with every kind of key, configured or not.
	for _, kind := range keyKinds(t, t.TempDir()) {
		keys := load(t, kind.sources)
		sealed, err := keys.Encrypt(t.Context(), "s.env", []byte("A=b\n"), ruleOf(t, kind.rule))
		require.NoError(t, err, kind.name)
		_, err = keys.Open("s.env", sealed)
		require.NoError(t, err, kind.name)
		_, err = keysOf(t, "production").Open("s.env", sealed)
		require.Error(t, err, kind.name)
	}
	// Proxies are left alone for addresses of this host anyway: one that is not.
	token := put(t, t.TempDir(), "token", "x")
	away := load(t, "vault: [{keys: [https://vault.invalid/v1/transit/keys/a], tokenFile: "+token+"}]\n")
	_, err = away.Encrypt(t.Context(), "s.env", []byte("A=b\n"), ruleOf(t, "hc_vault_transit_uri: https://vault.invalid/v1/transit/keys/a"))
	require.ErrorContains(t, err, "https://vault.invalid cannot be reached")

	assert.NoFileExists(t, ran)
	assert.Zero(t, called.Load())
}

// hostileEnvironment points every variable and file that SOPS and the SDKs of
// key services look at to keys that would fit, to an address, or to a program
// that leaves the returned file behind.
func hostileEnvironment(t *testing.T, address string) (ran string) {
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	ran = filepath.Join(dir, "ran")
	for p, content := range map[string]string{
		".config/sops/age/keys.txt": string(fixture(t, "development.agekey")),
		".ssh/id_ed25519":           string(fixture(t, "ssh_ed25519")),
		".ssh/id_rsa":               string(fixture(t, "ssh_rsa")),
		".vault-token":              "x",
		".gnupg/secring.gpg":        string(fixture(t, "pgp_rsa.gpg")),
		".aws/config":               "[default]\ncredential_process = touch " + ran + "\n",
		".aws/credentials":          "[default]\naws_access_key_id = x\naws_secret_access_key = x\n",
		".config/gcloud/application_default_credentials.json": `{"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}`,
	} {
		p = filepath.Join(home, p)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o700))
		require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
	}
	bin := filepath.Join(dir, "bin")
	require.NoError(t, os.Mkdir(bin, 0o700))
	for _, name := range []string{"gpg", "gpg2", "gpgconf", "gpg-agent", "az", "azd", "pwsh", "gcloud", "aws", "vault", "age-plugin-yubikey", "sh"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n: > "+ran+"\n"), 0o700))
	}
	url := "http://" + address
	for name, value := range map[string]string{
		"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, ".config"), "PATH": bin, "GNUPGHOME": filepath.Join(home, ".gnupg"),
		"SOPS_AGE_KEY": string(fixture(t, "development.agekey")), "SOPS_AGE_KEY_FILE": "testdata/development.agekey",
		"SOPS_AGE_KEY_CMD": "touch " + ran, "SOPS_AGE_SSH_PRIVATE_KEY_CMD": "touch " + ran,
		"SOPS_AGE_SSH_PRIVATE_KEY_FILE": "testdata/ssh_ed25519", "SOPS_GPG_EXEC": filepath.Join(bin, "gpg"),
		"SOPS_GCP_KMS_ENDPOINT": url, "SOPS_GCP_KMS_CLIENT_TYPE": "rest",
		"VAULT_ADDR": url, "VAULT_AGENT_ADDR": url, "VAULT_TOKEN": "x", "VAULT_HTTP_PROXY": url, "VAULT_NAMESPACE": "x",
		"AWS_ENDPOINT_URL": url, "AWS_ENDPOINT_URL_KMS": url, "AWS_ENDPOINT_URL_STS": url, "AWS_ACCESS_KEY_ID": "x",
		"AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "x", "AWS_PROFILE": "x", "AWS_EC2_METADATA_SERVICE_ENDPOINT": url,
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_ROLE_ARN": "x", "AWS_WEB_IDENTITY_TOKEN_FILE": "testdata/ssh_rsa",
		"GOOGLE_APPLICATION_CREDENTIALS": filepath.Join(home, ".config/gcloud/application_default_credentials.json"),
		"GOOGLE_CREDENTIALS":             "{}", "GOOGLE_OAUTH_ACCESS_TOKEN": "x", "GCE_METADATA_HOST": address,
		"AZURE_CLIENT_ID": "x", "AZURE_CLIENT_SECRET": "x", "AZURE_TENANT_ID": "x", "AZURE_AUTHORITY_HOST": url,
		"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": "x", "MSI_ENDPOINT": url,
		"HTTP_PROXY": url, "HTTPS_PROXY": url, "ALL_PROXY": url, "http_proxy": url, "https_proxy": url,
	} {
		t.Setenv(name, value)
	}
	return ran
}

// listen counts connections.
func listen(t *testing.T) (*atomic.Int32, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	var n atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			c.Close()
		}
	}()
	return &n, l.Addr().String()
}

func TestOpenConcurrently(t *testing.T) {
	keys := keysOf(t, "development", "production")
	var wg sync.WaitGroup
	for range 4 {
		for name := range fixtures {
			data, want := fixture(t, "sops", name), string(fixture(t, "opened", name))
			wg.Go(func() {
				o, err := keys.Open(name, data)
				assert.NoError(t, err)
				assert.Equal(t, want, string(o.Data))
			})
		}
	}
	wg.Wait()
}

func TestIsEncrypted(t *testing.T) {
	for name := range fixtures {
		assert.True(t, IsEncrypted(name, fixture(t, "sops", name)), name)
		if name != "secret.yaml" { // YAML in a file named as something else is data
			assert.True(t, IsEncrypted("unnamed", fixture(t, "sops", name)), "%s without a name", name)
		}
	}
	tests := []struct {
		path, data string
		want       bool
	}{
		{"a.yaml", "", false},
		{"a.yaml", "a: sops mac\n", false},
		{"a.yaml", "sops:\n  version: 1\n", false},
		{"a.yaml", "sops: text about mac\n", false},
		{"a.yaml", "data:\n  sops:\n    mac: x\n", false},
		{"a.yaml", "kind: ConfigMap\ndata:\n  a: |\n    sops:\n        mac: x\n    sops_mac=x\n", false},
		{"a.yaml", "a: b\n---\nsops: {mac: x}\n", true},
		{"a.yaml", `{"sops": {"mac": "x"}}`, true},
		{"a.yaml", "a: b: c\nsops:\n    mac: ENC[x\n", true},
		{"a.yaml", "sops_mac=x\n", false},
		{"a.yml", "sops: {mac: x}\n", true},
		{"a.env", "# sops_mac=x\nA=sops_mac=x\n", false},
		{"a.env", " sops_mac=x\n", false},
		{"a.env", "sops_mac=x\n", true},
		{"a.env", `{"data": "x", "sops": {"mac": "x"}}`, true},
		{"a.json", `{"a": {"sops": {"mac": "x"}}}`, false},
		{"a.json", `{"SOPS": {"mac": "x"}}`, false},
		{"a.json", `{"sops": "mac"}`, false},
		{"a.json", `{"sops": {"mac": "x"}} trailing`, false},
		{"a.json", `["sops", "mac"]`, false},
		{"a.json", ` {"sops": {"mac": "x"}}`, true},
		{"a.ini", "[a]\nmac = sops\n", false},
		{"a.ini", "[sops]\nversion = mac\n", false},
		{"a.ini", "[sops]\nmac = x\n", true},
		{"README", "sops_version=1 has a mac\n", false},
		{"README", "[sops]\n\nwrites a mac\n", false},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, IsEncrypted(tt.path, []byte(tt.data)), "%s %q", tt.path, tt.data)
	}
}

func TestParseAgeKeys(t *testing.T) {
	k := keysOf(t, "development", "production")
	require.Len(t, k.Recipients(), 2)
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v", k, k, k), fmt.Sprintf("%v %+v", *k, *k)} {
		assert.NotContains(t, text, "SECRET")
	}
	assert.Nil(t, (*Keys)(nil).Recipients())
	private := string(bytes.TrimSpace(bytes.Split(fixture(t, "development.agekey"), []byte("\n"))[2]))
	tests := map[string]struct{ data, want string }{
		"empty":      {"", "k: it holds no age identity"},
		"comments":   {"# x\n\n", "k: it holds no age identity"},
		"recipient":  {"\nage1tje7z0wnfq207swtlss8yqzfva7qsqdhvkdn3jhdudz7v5rag5gsnhj2uv\n", "k:2: this is a recipient (public key), not an identity"},
		"mistyped":   {private[:len(private)-3] + "QQQ\n", "k:1: the identity is malformed or of an unknown type"},
		"lower case": {strings.ToLower(private), "k:1: this is not an age identity"},
		"SSH":        {"-----BEGIN OPENSSH PRIVATE KEY-----\n", "k:1: the SSH key cannot be read"},
		"several":    {private + "\n-----BEGIN OPENSSH PRIVATE KEY-----\n", "k:2: an SSH key must be the only thing in its file"},
		"plugin":     {"AGE-PLUGIN-YUBIKEY-1X\n", "k:1: age plugins are not supported: they run programs"},
		"text":       {"hello\n", "k:1: this is not an age identity"},
		"long line":  {strings.Repeat("x", 1<<17), "k: it has a line that is too long"},
		"large":      {strings.Repeat("#\n", 1<<19+1), "k: it is larger than 1 MiB"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k, err := ParseAgeKeys("k", []byte(tt.data))
			assert.Nil(t, k)
			if name == "lower case" && err == nil {
				return
			}
			assert.EqualError(t, err, tt.want)
			assertHint(t, err)
		})
	}
	_, err := LoadAgeKeys("testdata/absent")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func BenchmarkOpen(b *testing.B) {
	keys := keysOf(b, "development")
	for _, name := range []string{"secrets.env", "values.yaml"} {
		data := fixture(b, "sops", name)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := keys.Open(name, data); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/keyless", func(b *testing.B) {
			for b.Loop() {
				if _, err := OpenKeyless(name, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	plain := fixture(b, "plain", "secret.yaml")
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			IsEncrypted("secret.yaml", plain)
		}
	})
}

func addFixtures(f *mutants.F) {
	for name := range fixtures {
		f.Add(name, fixture(f, "sops", name))
	}
	f.Add("a.json", []byte(`{"sops":{"mac":"x"},"a":[[[]]]}`))
	f.Add("a.yaml", []byte("a: &a [*a]\nsops: {mac: x}\n"))
}

// Whatever the input, nothing panics and no error holds a value of a fixture.
func FuzzOpen(ff *testing.F) {
	f := mutants.New(ff)
	addFixtures(f)
	keys := keysOf(f, "development", "production")
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		if bytes.Contains(data, []byte("canary")) || strings.Contains(path, "canary") {
			return // the input itself holds what is looked for
		}
		o, err := keys.Open(path, data)
		if err != nil {
			assertNoLeak(t, err)
			assertHint(t, err)
			return
		}
		if o.Encrypted != IsEncrypted(path, data) {
			t.Errorf("Open and IsEncrypted disagree on %q", path)
		}
	})
}

// A keyless view never holds ciphertext and needs no key; names are found.
func FuzzOpenKeyless(ff *testing.F) {
	f := mutants.New(ff)
	addFixtures(f)
	rule := ruleFor(f, keysOf(f, "development").Recipients()...)
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		encrypted := IsEncrypted(path, data)
		o, err := OpenKeyless(path, data)
		if err == nil && !encrypted && !bytes.Equal(o.Data, data) {
			t.Errorf("a plain file was changed")
		}
		_, _ = Names(path, data)
		// What a file says of its keys is read too, by those who list and compare it.
		_, listed := Recipients(path, data)
		if listed == nil && !encrypted {
			t.Errorf("a plain file has recipients")
		}
		_, compared := CompareKeys(path, data, rule)
		for _, err := range []error{listed, compared} {
			if err != nil && !bytes.Contains(data, []byte("canary")) && !strings.Contains(path, "canary") {
				assertNoLeak(t, err)
			}
		}
	})
}
