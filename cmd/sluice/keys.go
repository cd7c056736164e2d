package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render"
	"github.com/sluice-dev/sluice/secrets"
)

// keyring holds the decryption keys of each environment. Keys come only from
// --age-key-file and --key-sources: nothing is taken from the process's
// surroundings.
type keyring map[string]*secrets.Keys

// keyArgument is one --age-key-file or --key-sources.
type keyArgument struct {
	flag, arg string
	load      func(path string) (*secrets.Keys, error)
}

func (a *app) keyArguments() []keyArgument {
	var out []keyArgument
	for _, arg := range a.ageKeyFiles {
		out = append(out, keyArgument{"--age-key-file", arg, secrets.LoadAgeKeys})
	}
	for _, arg := range a.keySources {
		out = append(out, keyArgument{"--key-sources", arg, secrets.LoadKeySources})
	}
	return out
}

func (k keyArgument) String() string { return k.flag + " " + k.arg }

// environment is the one that the keys are bound to.
func (k keyArgument) environment() (env, file string, bound bool) {
	if env, file, bound = strings.Cut(k.arg, "="); !bound {
		return "", k.arg, false
	}
	return env, file, true
}

// loadKeys reads the files of --age-key-file and --key-sources. A file without
// an environment is for the one environment in use; with several it would hand
// every environment's secrets to every other. One that is bound to another of
// the known environments is left unread, so that the same flags go with every
// command.
func (a *app) loadKeys(inUse, known []string) (keyring, error) {
	keys := keyring{}
	for _, arg := range a.keyArguments() {
		env, file, bound := arg.environment()
		if !bound {
			if len(inUse) != 1 {
				return nil, withHint(usagef("%s names no environment, and %d are in use (%s)", arg, len(inUse), strings.Join(inUse, ", ")),
					"bind the keys to their environment: %s ENVIRONMENT=%s", arg.flag, file)
			}
			env = inUse[0]
		}
		if !slices.Contains(inUse, env) {
			if slices.Contains(known, env) {
				continue
			}
			return nil, withHint(usagef("%s: environment %q is not in use", arg, env), "in use: %s", strings.Join(inUse, ", "))
		}
		k, err := arg.load(a.abs(file))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arg, err)
		}
		if have := keys[env]; have != nil {
			have.Add(k)
		} else {
			keys[env] = k
		}
	}
	return keys, nil
}

// decrypt is what rendering an environment uses: its keys or, when it has
// none, an error that names the file that needs one.
func (k keyring) decrypt(env string) render.Decrypt {
	keys := k[env]
	return func(file string, data []byte) (render.Decrypted, error) {
		opened, err := keys.Open(file, data)
		return decrypted(file, data, opened), err
	}
}

// show is what commands use that only display: without keys, the values of
// encrypted files are replaced by a placeholder.
func (k keyring) show(env string) render.Decrypt {
	if k[env] != nil {
		return k.decrypt(env)
	}
	return keyless
}

// keyless renders what can be rendered without any private key.
func keyless(file string, data []byte) (render.Decrypted, error) {
	opened, err := secrets.OpenKeyless(file, data)
	return decrypted(file, data, opened), err
}

// decrypted hands an opened file on to render.
func decrypted(file string, data []byte, opened secrets.Opened) render.Decrypted {
	return render.Decrypted{
		Data: opened.Data, Values: opened.Values, Encrypted: opened.Encrypted, Keyless: opened.Keyless, Opaque: opened.Opaque,
		Masked: func() ([]byte, error) {
			masked, err := secrets.OpenKeyless(file, data)
			return masked.Data, err
		},
	}
}

func hasEnvironment(p envrepo.Project, name string) bool {
	for _, e := range p.Environments {
		if e.Name == name {
			return true
		}
	}
	return false
}

func environmentNames(p envrepo.Project) []string {
	var names []string
	for _, e := range p.Environments {
		names = append(names, e.Name)
	}
	return names
}
