package secrets

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/internal/checkout"
)

// program is the path of a program that make tools builds.
func program(t testing.TB, name string) string {
	t.Helper()
	root, err := checkout.Root()
	require.NoError(t, err)
	path := filepath.Join(root, "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not built: make tools builds it", name)
	}
	return path
}

// realVault starts Vault's own transit engine with a key.
func realVault(t testing.TB, dir string) keyKind {
	t.Helper()
	cmd := exec.Command(program(t, "transit"), vaultTestToken)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	s := &keyServer{Server: nil}
	uri := strings.TrimSpace(address) + vaultTestPath
	r, err := http.NewRequest(http.MethodPost, uri, strings.NewReader(`{"type": "aes256-gcm96"}`))
	require.NoError(t, err)
	r.Header.Set("X-Vault-Token", vaultTestToken)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	resp.Body.Close()
	require.Less(t, resp.StatusCode, 300)
	return keyKind{
		name: "vault", rule: "hc_vault_transit_uri: " + uri, group: "hc_vault: [" + uri + "]",
		sources: "vault: [{keys: [" + uri + "], tokenFile: " + put(t, dir, "real-vault-token", vaultTestToken) + "}]\n",
		env:     []string{"VAULT_TOKEN=" + vaultTestToken}, server: s,
	}
}

// sopsCommand runs the sops command with what a kind of key needs, and nothing else of
// the environment.
type sopsCommand struct {
	program, dir string
	env          []string
}

func newSops(t testing.TB, kinds ...keyKind) sopsCommand {
	t.Helper()
	s := sopsCommand{program: program(t, "sops"), dir: t.TempDir()}
	s.env = []string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true"}
	for _, k := range kinds {
		s.env = append(s.env, k.env...)
		if strings.HasPrefix(k.name, "pgp_") {
			s.importKey(t, "testdata/"+k.name)
		}
	}
	return s
}

// importKey gives sops's gpg a keyring of its own. The path of a socket is
// short, that of a test's folder need not be.
func (s *sopsCommand) importKey(t testing.TB, file string) {
	t.Helper()
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("gpg is not installed")
	}
	home, err := os.MkdirTemp("", "gpg")
	require.NoError(t, err)
	s.env = append(s.env, "GNUPGHOME="+home)
	t.Cleanup(func() {
		stop := exec.Command("gpgconf", "--kill", "all")
		stop.Env = s.env
		_ = stop.Run()
		_ = os.RemoveAll(home)
	})
	cmd := exec.Command(gpg, "--batch", "--quiet", "--import", file)
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

func (s sopsCommand) run(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(s.program, append([]string{"--disable-version-check"}, args...)...)
	cmd.Env, cmd.Dir = s.env, s.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "sops %v: %s", args, stderr.String())
	return out
}

// encrypt encrypts a file under a creation rule.
func (s sopsCommand) encrypt(t testing.TB, rule, name string, plain []byte) []byte {
	t.Helper()
	config := put(t, s.dir, "rules.yaml", "creation_rules:\n- {"+rule+"}\n")
	return s.run(t, "--config", config, "encrypt", put(t, s.dir, name, string(plain)))
}

func (s sopsCommand) decrypt(t testing.TB, name string, sealed []byte) []byte {
	t.Helper()
	return s.run(t, "decrypt", put(t, s.dir, name, string(sealed)))
}

var formatNames = []string{"secrets.env", "values.yaml", "config.json", "app.ini", "token.bin"}

// Every format, with every kind of key, both ways: what the sops command writes
// opens, and it opens what is written here.
func TestTheSopsCommandAndWeReadEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kinds := keyKinds(t, dir)
	for i, kind := range kinds {
		if kind.name == "vault" {
			kinds[i] = realVault(t, dir)
		}
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			command, keys := newSops(t, kind), load(t, kind.sources)
			for _, name := range formatNames {
				plain, opened := fixture(t, "plain", name), string(fixture(t, "opened", name))
				o, err := keys.Open(name, command.encrypt(t, kind.rule, name, plain))
				require.NoError(t, err, name)
				assert.Equal(t, opened, string(o.Data), name)
				sealed, err := keys.Encrypt(t.Context(), name, plain, ruleOf(t, kind.rule))
				require.NoError(t, err, name)
				assert.Equal(t, opened, string(command.decrypt(t, name, sealed)), name)
			}
		})
	}
}

// The same for key groups of mixed kinds, and for what creation rules say of
// values.
func TestTheSopsCommandAndWeReadEachOthersRules(t *testing.T) {
	t.Parallel()
	kinds := map[string]keyKind{}
	for _, k := range keyKinds(t, t.TempDir()) {
		kinds[k.name] = k
	}
	ssh, pgp, aws := kinds["ssh_rsa"], kinds["pgp_curve25519.asc"], kinds["aws"]
	command, keys := newSops(t, ssh, pgp, aws), load(t, ssh.sources+aws.sources)
	for name, rule := range map[string]string{
		"Shamir":           "shamir_threshold: 2, key_groups: [{" + ssh.group + "}, {" + pgp.group + "}, {" + aws.group + "}]",
		"merged groups":    "key_groups: [{merge: [{" + ssh.group + "}, {" + aws.group + "}]}]",
		"encrypted_regex":  "encrypted_regex: ^(pool|motd)$, " + ssh.rule,
		"encrypted_suffix": "encrypted_suffix: s, " + ssh.rule,
		"comments":         "unencrypted_comment_regex: user, " + ssh.rule,
		"mac_only":         "mac_only_encrypted: true, unencrypted_regex: note, " + ssh.rule,
	} {
		plain := fixture(t, "plain", "values.yaml")
		sealed := command.encrypt(t, rule, "values.yaml", plain)
		o, err := keys.Open("values.yaml", sealed)
		require.NoError(t, err, name)
		assert.Equal(t, string(command.decrypt(t, "values.yaml", sealed)), string(o.Data), name)
		with := load(t, ssh.sources+pgp.sources+aws.sources)
		ours, err := with.Encrypt(t.Context(), "values.yaml", plain, ruleOf(t, rule))
		require.NoError(t, err, name)
		assert.Equal(t, string(o.Data), string(command.decrypt(t, "values.yaml", ours)), name)
		masked, err := OpenKeyless("values.yaml", sealed)
		require.NoError(t, err)
		again, err := OpenKeyless("values.yaml", ours)
		require.NoError(t, err)
		assert.Equal(t, string(masked.Data), string(again.Data), "%s: the same values are encrypted", name)
	}
}
