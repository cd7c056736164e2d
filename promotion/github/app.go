package github

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"

	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/google/go-github/v60/github"
)

const maxKey = 64 << 10 // bytes of an App's key file

// appTransport signs in as an installation of an App, with the key that its file holds
// at the time: a key is replaced without a restart.
type appTransport struct {
	app   App
	base  string // address of the API
	below http.RoundTripper

	mu     sync.Mutex
	key    []byte
	signed *ghinstallation.Transport // by key; it keeps the installation's token
}

// RoundTrip implements http.RoundTripper.
func (t *appTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	signed, err := t.current()
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	return signed.RoundTrip(req)
}

// Token is the installation's token, for Git. It is kept until shortly before it ends.
func (t *appTransport) Token(ctx context.Context) (string, error) {
	signed, err := t.current()
	if err != nil {
		return "", err
	}
	return signed.Token(ctx)
}

// current reads the key. A token that an earlier key asked for is forgotten with it.
func (t *appTransport) current() (*ghinstallation.Transport, error) {
	key, err := readKey(t.app.KeyFile)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.signed != nil && bytes.Equal(key, t.key) {
		return t.signed, nil
	}
	signed, err := ghinstallation.New(t.below, t.app.ID, t.app.Installation, key)
	if err != nil {
		// The cause is left out: it may quote what is in the file.
		return nil, &OptionError{"the App's key file " + t.app.KeyFile + " holds no RSA private key", "use the .pem file that GitHub gave out for the App"}
	}
	signed.InstallationTokenOptions = &github.InstallationTokenOptions{} // without, it sends null
	signed.BaseURL = t.base
	t.key, t.signed = key, signed
	return signed, nil
}

func readKey(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxKey) {
		err = errors.New("not a key file")
	}
	var key []byte
	if err == nil {
		key, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, &OptionError{fmt.Sprintf("reading the App's key: %v", err), "SLUICE_GITHUB_APP_KEY_FILE names the App's .pem file"}
	}
	return key, nil
}
