package signature_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-dev/sluice/gitrepo/signature"
	"github.com/sluice-dev/sluice/internal/mutants"
)

// keyPair is one that ssh-keygen or gpg made: how to sign with it in git, and its
// public key.
type keyPair struct {
	config []string // of git
	public []byte
	secret []byte
}

func tool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed: %v", name, err)
	}
}

func run(t testing.TB, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoErrorf(t, err, "%s %v: %s", name, args, stderr.String())
	return out
}

func sshKey(t testing.TB, kind string, more ...string) keyPair {
	t.Helper()
	tool(t, "ssh-keygen")
	file := filepath.Join(t.TempDir(), "key")
	run(t, "", nil, "ssh-keygen", append([]string{"-q", "-t", kind, "-N", "", "-C", "ann@example.com", "-f", file}, more...)...)
	return keyPair{[]string{"gpg.format=ssh", "user.signingkey=" + file}, read(t, file+".pub"), read(t, file)}
}

func gpgKey(t testing.TB, kind string) keyPair {
	t.Helper()
	tool(t, "gpg")
	home, err := os.MkdirTemp("", "gnupg") // a short path: the agent's socket is in it
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) []byte {
		return run(t, "", nil, "gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	}
	gpg("--quick-generate-key", "Ann <ann@example.com>", kind, "sign", "never")
	wrapper := filepath.Join(home, "gpg.sh")
	require.NoError(t, os.WriteFile(wrapper, []byte("#!/bin/sh\nexec gpg --homedir "+home+" --batch --pinentry-mode loopback --passphrase '' \"$@\"\n"), 0o700))
	return keyPair{[]string{"gpg.program=" + wrapper, "user.signingkey=ann@example.com"}, gpg("--armor", "--export"), gpg("--armor", "--export-secret-keys")}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return data
}

var gitEnv = []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
	"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com"}

// signed is a commit that git made with a key; the folder is its repository.
func signed(t testing.TB, k keyPair) (commit []byte, dir string) {
	t.Helper()
	dir = t.TempDir()
	run(t, dir, gitEnv, "git", "init", "--quiet", "--initial-branch=main")
	args := []string{}
	for _, c := range k.config {
		args = append(args, "-c", c)
	}
	run(t, dir, gitEnv, "git", append(args, "commit", "--quiet", "--allow-empty", "-S", "-m", "Set weights\n\nblue=90\n")...)
	return run(t, dir, gitEnv, "git", "cat-file", "commit", "HEAD"), dir
}

func keysOf(t testing.TB, files ...[]byte) *signature.Keys {
	t.Helper()
	keys := &signature.Keys{}
	for _, f := range files {
		require.NoError(t, keys.ParseKeys("keys", f))
	}
	return keys
}

// TestWhatGitSigns reads commits that git, gpg and ssh-keygen made.
func TestWhatGitSigns(t *testing.T) {
	stranger := sshKey(t, "ed25519")
	makers := map[string]func(t *testing.T) keyPair{
		"ssh ed25519":     func(t *testing.T) keyPair { return sshKey(t, "ed25519") },
		"ssh ecdsa":       func(t *testing.T) keyPair { return sshKey(t, "ecdsa") },
		"ssh rsa":         func(t *testing.T) keyPair { return sshKey(t, "rsa", "-b", "2048") },
		"openpgp ed25519": func(t *testing.T) keyPair { return gpgKey(t, "ed25519") },
		"openpgp rsa":     func(t *testing.T) keyPair { return gpgKey(t, "rsa2048") },
	}
	for name, make := range makers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair := make(t)
			commit, _ := signed(t, pair)
			signer, err := keysOf(t, stranger.public, pair.public).Verify(commit, time.Now())
			require.NoError(t, err)
			assert.Contains(t, signer.Name, "ann@example.com")
			assert.NotEmpty(t, signer.Fingerprint)

			_, err = keysOf(t, stranger.public).Verify(commit, time.Now())
			assert.ErrorIs(t, err, signature.ErrUnknownKey)
			for _, change := range []struct{ from, to string }{{"blue=90", "blue=10"}, {"tree 4", "tree 5"}, {"Ann <ann", "Eve <ann"}} {
				forged := bytes.Replace(commit, []byte(change.from), []byte(change.to), 1)
				require.NotEqual(t, commit, forged)
				_, err = keysOf(t, pair.public).Verify(forged, time.Now())
				assert.ErrorIs(t, err, signature.ErrInvalid, change.from)
			}
		})
	}
}

// TestGitReadsWhatIsSigned has git verify what PrivateKey.Sign made.
func TestGitReadsWhatIsSigned(t *testing.T) {
	t.Run("ssh", func(t *testing.T) {
		pair := sshKey(t, "ed25519")
		commit, dir := resigned(t, pair)
		signers := filepath.Join(t.TempDir(), "signers")
		require.NoError(t, os.WriteFile(signers, append([]byte("ann@example.com "), pair.public...), 0o600))
		run(t, dir, gitEnv, "git", "-c", "gpg.ssh.allowedSignersFile="+signers, "verify-commit", commit)
	})
	t.Run("openpgp", func(t *testing.T) {
		pair := gpgKey(t, "ed25519")
		commit, dir := resigned(t, pair)
		run(t, dir, gitEnv, "git", "-c", pair.config[0], "verify-commit", commit)
	})
}

// resigned is a commit that git signed, signed by this package instead.
func resigned(t *testing.T, pair keyPair) (hash, dir string) {
	t.Helper()
	commit, dir := signed(t, pair)
	payload, sig, err := signature.Split(commit)
	require.NoError(t, err)
	assert.Equal(t, string(commit), string(signature.Join(payload, sig)), "what was split is joined again")
	key, err := signature.ParsePrivateKey("key", pair.secret)
	require.NoError(t, err)
	assert.NotContains(t, key.GoString()+key.String(), "PRIVATE")
	again, err := key.Sign(payload)
	require.NoError(t, err)
	signer, err := keysOf(t, pair.public).Verify(again, time.Now())
	require.NoError(t, err)
	assert.Equal(t, key.Fingerprint(), signer.Fingerprint)
	file := filepath.Join(t.TempDir(), "object")
	require.NoError(t, os.WriteFile(file, again, 0o600))
	hash = strings.TrimSpace(string(run(t, dir, gitEnv, "git", "hash-object", "-t", "commit", "-w", file)))
	return hash, dir
}

// TestWhenAKeyIsValid: what a key signed counts while the key is valid, not while
// the date in the commit is.
func TestWhenAKeyIsValid(t *testing.T) {
	pair := sshKey(t, "ed25519")
	commit, _ := signed(t, pair)
	at := func(day string) time.Time {
		when, err := time.Parse("2006-01-02", day)
		require.NoError(t, err)
		return when
	}
	line := func(options string) []byte {
		return []byte(`"Ann <ann@example.com>" ` + options + " " + string(pair.public))
	}
	bounded := line(`namespaces="file,git",valid-after="20260101Z",valid-before="202701010000Z"`)
	for day, wanted := range map[string]error{"2025-12-31": signature.ErrKeyEnded, "2026-06-01": nil, "2027-01-01": signature.ErrKeyEnded} {
		_, err := keysOf(t, bounded).Verify(commit, at(day))
		assert.ErrorIs(t, err, wanted, day)
		_, err = keysOf(t, bounded, line(`valid-after="20270101"`)).Verify(commit, at(day))
		if day == "2027-01-01" {
			wanted = nil
		}
		assert.ErrorIs(t, err, wanted, "%s, with a second span", day)
	}
	for _, options := range []string{`namespaces="file"`, `cert-authority`, `valid-before="soon"`, `verify-required`} {
		assert.Error(t, (&signature.Keys{}).ParseKeys("keys", line(options)), options)
	}
}

// entity makes an OpenPGP key whose life is bounded.
func entity(t testing.TB, made time.Time, life time.Duration) (*openpgp.Entity, []byte) {
	t.Helper()
	e, err := openpgp.NewEntity("Ann", "", "ann@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA,
		Time: func() time.Time { return made }, KeyLifetimeSecs: uint32(life.Seconds())})
	require.NoError(t, err)
	return e, public(t, e)
}

func public(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	require.NoError(t, err)
	require.NoError(t, e.Serialize(w))
	require.NoError(t, w.Close())
	return b.Bytes()
}

const unsignedCommit = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@example.com> 1767225600 +0000\ncommitter A <a@example.com> 1767225600 +0000\n\nMessage\n"

func TestOpenPGPKeysThatEnd(t *testing.T) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sign := func(e *openpgp.Entity, kind func(*bytes.Buffer, *packet.Config) error, c *packet.Config) []byte {
		var sig bytes.Buffer
		c.Time = func() time.Time { return made.Add(time.Hour) }
		require.NoError(t, kind(&sig, c))
		return signature.Join([]byte(unsignedCommit), sig.Bytes())
	}
	e, pub := entity(t, made, 24*time.Hour)
	binary := func(b *bytes.Buffer, c *packet.Config) error {
		return openpgp.ArmoredDetachSign(b, e, strings.NewReader(unsignedCommit), c)
	}
	text := func(b *bytes.Buffer, c *packet.Config) error {
		return openpgp.ArmoredDetachSignText(b, e, strings.NewReader(unsignedCommit), c)
	}
	commit := sign(e, binary, &packet.Config{})
	keys := keysOf(t, pub)
	_, err := keys.Verify(commit, made.Add(2*time.Hour))
	require.NoError(t, err)
	_, err = keys.Verify(commit, made.Add(48*time.Hour))
	assert.ErrorIs(t, err, signature.ErrKeyEnded)
	_, err = keys.Verify(sign(e, text, &packet.Config{}), made.Add(2*time.Hour))
	assert.ErrorIs(t, err, signature.ErrUnsupported, "a signature over lines fits several contents")

	require.NoError(t, e.RevokeKey(packet.KeyCompromised, "lost", &packet.Config{Time: func() time.Time { return made.Add(90 * time.Minute) }}))
	_, err = keysOf(t, public(t, e)).Verify(commit, made.Add(2*time.Hour))
	assert.ErrorIs(t, err, signature.ErrKeyEnded)
}

func TestCommitsThatAreRefused(t *testing.T) {
	pair := sshKey(t, "ed25519")
	commit, _ := signed(t, pair)
	payload, sig, err := signature.Split(commit)
	require.NoError(t, err)
	other := sshKey(t, "ed25519")
	key, err := signature.ParsePrivateKey("key", other.secret)
	require.NoError(t, err)
	foreign, err := key.Sign([]byte(unsignedCommit))
	require.NoError(t, err)
	_, foreignSig, err := signature.Split(foreign)
	require.NoError(t, err)

	// To readers these are commits without parents, authors and committers, of a
	// payload that is signed.
	tree, rest, _ := bytes.Cut(payload, []byte("\n"))
	folded := bytes.ReplaceAll(bytes.TrimRight(sig, "\n"), []byte("\n"), []byte("\n "))
	movedUp := slices.Concat(tree, []byte("\ngpgsig "), folded, []byte("\n"), rest)
	otherAbove := slices.Concat(tree, []byte("\ngpgsig-sha256 x\n"), signature.Join(rest, sig))

	tests := map[string]struct {
		commit []byte
		reason error
	}{
		"moved above the people": {movedUp, signature.ErrUnsupported},
		"another one above them": {otherAbove, signature.ErrUnsupported},
		"unsigned":               {payload, signature.ErrUnsigned},
		"empty":                  {nil, signature.ErrUnsigned},
		"signed twice":           {signature.Join(commit, sig), signature.ErrUnsupported},
		"signature of another":   {signature.Join([]byte(unsignedCommit), sig), signature.ErrInvalid},
		"key of another":         {signature.Join(payload, foreignSig), signature.ErrUnknownKey},
		"X.509":                  {signature.Join(payload, []byte("-----BEGIN SIGNED MESSAGE-----\nAAAA\n-----END SIGNED MESSAGE-----\n")), signature.ErrUnsupported},
		"armour without content": {signature.Join(payload, []byte("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n")), signature.ErrInvalid},
		"openpgp armour alone":   {signature.Join(payload, []byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n")), signature.ErrUnknownKey},
		"openpgp garbage":        {signature.Join(payload, []byte("-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n")), signature.ErrInvalid},
		"a header in between":    {bytes.Replace(commit, []byte("\nauthor "), []byte("\nencoding x\nauthor "), 1), signature.ErrInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := keysOf(t, pair.public).Verify(tt.commit, time.Now())
			assert.ErrorIs(t, err, tt.reason)
			var refused *signature.Error
			assert.ErrorAs(t, err, &refused)
		})
	}
	_, err = (&signature.Keys{}).Verify(commit, time.Now())
	assert.ErrorIs(t, err, signature.ErrUnknownKey, "no keys trust nobody")
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	pair := sshKey(t, "ed25519")
	weak := sshKey(t, "rsa", "-b", "1024")
	for name, data := range map[string][]byte{
		"private key":   pair.secret,
		"weak key":      weak.public,
		"empty":         []byte("# nothing\n\n"),
		"garbage":       []byte("ssh-ed25519 AAAA"),
		"half a line":   []byte("ann@example.com"),
		"broken armour": []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"),
		"half armour":   []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"),
		"too large":     bytes.Repeat([]byte("#"), 1<<20+1),
	} {
		t.Run(name, func(t *testing.T) {
			err := (&signature.Keys{}).ParseKeys("trusted.pub", data)
			require.ErrorContains(t, err, "trusted.pub")
			assert.NotContains(t, err.Error(), "AAAA")
		})
	}
	locked := filepath.Join(t.TempDir(), "locked")
	run(t, "", nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked)
	_, err := signature.ParsePrivateKey("locked", read(t, locked))
	require.ErrorContains(t, err, "passphrase")
	_, err = signature.ParsePrivateKey("key", pair.public)
	require.ErrorContains(t, err, "neither an SSH nor")
}

// FuzzVerify holds that no bytes are accepted but those that were signed.
func FuzzVerify(ff *testing.F) {
	f := mutants.New(ff)
	pair := sshKey(f, "ed25519")
	commit, _ := signed(f, pair)
	e, pub := entity(f, time.Now().Add(-time.Hour), 0)
	var sig bytes.Buffer
	require.NoError(f, openpgp.ArmoredDetachSign(&sig, e, strings.NewReader(unsignedCommit), nil))
	f.Add(commit)
	f.Add(signature.Join([]byte(unsignedCommit), sig.Bytes()))
	f.Add([]byte(unsignedCommit))
	f.Add([]byte("gpgsig -----BEGIN PGP SIGNATURE-----\n \n\n"))
	keys := keysOf(f, pair.public, pub)
	real, _, err := signature.Split(commit)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, _, _ := signature.Split(data)
		if _, err := keys.Verify(data, time.Now()); err == nil {
			assert.Contains(t, []string{string(real), unsignedCommit}, string(payload))
		}
	})
}

// FuzzParseKeys holds that no file of keys ends the process.
func FuzzParseKeys(ff *testing.F) {
	f := mutants.New(ff)
	_, pub := entity(f, time.Now(), 0)
	f.Add(pub)
	f.Add([]byte(`ann@example.com namespaces="git" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl`))
	f.Add([]byte("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys := &signature.Keys{}
		if err := keys.ParseKeys("file", data); err == nil {
			assert.Positive(t, keys.Len())
		}
	})
}
