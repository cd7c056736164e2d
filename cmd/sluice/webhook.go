package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/sluice-dev/sluice/webhook"
)

// webhookOptions say where a controller takes webhooks of a forge.
type webhookOptions struct {
	address    string
	secretFile string
}

func (o webhookOptions) check() error {
	switch {
	case o.address == "" && o.secretFile == "":
		return nil
	case o.address == "":
		return withHint(usagef("--webhook-secret-file is for --webhook-address, which is missing"), "for example --webhook-address :9393")
	case o.secretFile == "":
		return withHint(usagef("--webhook-address needs --webhook-secret-file: webhooks are believed by their signature"),
			"make a secret with `openssl rand -hex 32`, put it into a file, and give the same to the forge")
	}
	if _, _, err := net.SplitHostPort(o.address); err != nil {
		return withHint(usagef("--webhook-address %q is not HOST:PORT", o.address), "for example --webhook-address :9393")
	}
	return nil
}

// webhookServer takes webhooks. All that an authentic one does is cause a look: of
// a push at the repository, as a POST to the notify address does, of anything else
// at the one pull request that it is about. A flood of them is one look at each.
type webhookServer struct {
	listener net.Listener
	server   *http.Server
	triggers *webhook.Triggers
	log      logr.Logger
	posted   chan<- struct{}   // of room for one
	asked    *webhook.Triggers // pull requests to look after; nil: nobody does
	standby  *standby          // nil: this controller leads, always
}

// standby is what a controller knows that may have to stand by.
type standby struct {
	leads func() bool
	tell  func(context.Context, []webhook.Event) error // the one that leads
	pause time.Duration                                // between two tellings
}

// newWebhookServer listens on the address, and reads the secrets.
func newWebhookServer(o webhookOptions, posted chan<- struct{}, log logr.Logger) (*webhookServer, error) {
	file := &secretFile{path: o.secretFile, now: time.Now, log: log}
	if err := file.load(); err != nil {
		return nil, err
	}
	s := &webhookServer{triggers: webhook.NewTriggers(), log: log, posted: posted}
	handler, err := webhook.New(webhook.Options{Secrets: file.secrets, Deliver: s.triggers.Add})
	if err != nil {
		return nil, err
	}
	if s.listener, err = net.Listen("tcp", o.address); err != nil {
		return nil, fmt.Errorf("listening on the webhook address: %w", err)
	}
	s.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return s, nil
}

// forward hands on what there is to look at until ctx ends: here when this
// controller leads, else to the one that does.
func (s *webhookServer) forward(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.triggers.Ready():
		}
		events := s.triggers.Take()
		s.log.V(1).Info("told by webhook", "events", len(events))
		if s.standby == nil || s.standby.leads() {
			s.take(events)
			continue
		}
		if err := s.standby.tell(ctx, s.wanted(events)); err != nil {
			s.log.Info("the controller that leads could not be told of a webhook; trying again", "error", err.Error())
			for _, e := range events {
				s.triggers.Add(e)
			}
		}
		if !pause(ctx, s.standby.pause+rand.N(s.standby.pause)) {
			return nil // what comes meanwhile is told at once, in one write
		}
	}
}

// wanted are the events that a controller with these flags does something about.
func (s *webhookServer) wanted(events []webhook.Event) []webhook.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e webhook.Event) bool {
		return s.asked == nil && (e.Kind == webhook.PullRequest || e.Kind == webhook.Check)
	})
}

// take has the controller look.
func (s *webhookServer) take(events []webhook.Event) {
	for _, e := range s.wanted(events) {
		if e.Kind == webhook.Push || e.Kind == webhook.Anything {
			select {
			case s.posted <- struct{}{}:
			default: // one is waiting already, and it will see this too
			}
		}
		if e.Kind != webhook.Push && s.asked != nil {
			s.asked.Add(e)
		}
	}
}

const (
	maxSecretFile = 64 << 10 // bytes
	// rereadSecrets is how old what was read may be: a secret that was replaced
	// counts for no longer.
	rereadSecrets = 5 * time.Second
)

// secretFile is read again when a webhook comes, so that secrets are replaced
// without a restart. While it cannot be read, what it had is kept.
type secretFile struct {
	path string
	now  func() time.Time
	log  logr.Logger

	mu    sync.Mutex
	known webhook.Secrets
	read  time.Time
}

// secrets are what the file has.
func (f *secretFile) secrets() webhook.Secrets {
	f.mu.Lock()
	stale := f.now().Sub(f.read) >= rereadSecrets
	f.mu.Unlock()
	if stale {
		if err := f.load(); err != nil {
			f.log.Error(err, "keeping the webhook secrets that were read before")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

// load reads the file.
func (f *secretFile) load() error {
	now := f.now()
	secrets, err := readSecrets(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read = now // the next try has time as well
	if err == nil {
		f.known = secrets
	}
	return err
}

func readSecrets(path string) (webhook.Secrets, error) {
	const hint = "the file has one secret a line, such as `openssl rand -hex 32` prints"
	file, err := os.Open(path)
	if err != nil {
		return webhook.Secrets{}, withHint(fmt.Errorf("reading the webhook secrets: %w", err), hint)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err == nil && len(text) > maxSecretFile {
		err = errors.New("longer than a file of secrets is")
	}
	var secrets webhook.Secrets
	if err == nil {
		secrets, err = webhook.ParseSecrets(text)
	}
	if err != nil {
		return webhook.Secrets{}, withHint(fmt.Errorf("reading the webhook secrets: %s: %w", path, err), hint)
	}
	return secrets, nil
}
