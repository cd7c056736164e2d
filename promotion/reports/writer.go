package reports

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/gitrepo"
)

// maxAttempts bounds how often a write is begun again because somebody was faster.
const maxAttempts = 5

// Writer writes the reports of the environments that a controller serves. It is not
// safe for concurrent use.
type Writer struct {
	Repository *gitrepo.Repository
	Key        ed25519.PrivateKey
	Project    string
	Now        func() time.Time

	origin origin
}

// Write reports on the releases of an environment, unless the report that is there
// says the same and counts for long enough still. It returns when the report has to
// be renewed though nothing changes.
func (w *Writer) Write(ctx context.Context, environment string, releases []Release) (renew time.Time, err error) {
	releases = slices.Clone(releases)
	slices.SortFunc(releases, func(a, b Release) int { return strings.Compare(a.Component, b.Component) })
	for range maxAttempts {
		renew, err = w.write(ctx, environment, releases)
		if !errors.Is(err, gitrepo.ErrConflict) {
			break
		}
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("reporting the health of %s: %w", environment, err)
	}
	return renew, nil
}

func (w *Writer) write(ctx context.Context, environment string, releases []Release) (time.Time, error) {
	root, err := w.origin.of(ctx, w.Repository)
	if err != nil {
		return time.Time{}, err
	}
	ref := Ref(w.Project, environment)
	refs, err := w.Repository.FetchRefs(ctx, ref)
	if err != nil {
		return time.Time{}, err
	}
	now := w.Now().UTC()
	next := Report{
		Version: version, Repository: root, Project: w.Project, Environment: environment, Sequence: now.UnixMilli(), At: now, Expires: now.Add(Validity), Releases: releases,
	}
	if before, err := w.last(root, ref, refs[ref]); err == nil {
		next.Sequence = max(next.Sequence, before.Sequence+1)
		if renew := before.At.Add(Validity / 2); now.Before(renew) && before.current(now) == nil && before.says(releases) {
			return renew, nil
		}
	}
	data, err := json.MarshalIndent(next, "", " ")
	if err != nil {
		return time.Time{}, err
	}
	commit, err := w.Repository.WriteCommit(nil, "", gitrepo.Edit{
		Message: "Health of " + environment, Write: map[string][]byte{dataFile: data, signatureFile: sign(w.Key, ref, data)},
	})
	if err != nil {
		return time.Time{}, err
	}
	if err := w.Repository.Push(ctx, []gitrepo.RefUpdate{{Name: ref, Old: refs[ref], New: commit}}); err != nil {
		return time.Time{}, err
	}
	return now.Add(Validity / 2), nil
}

// last is the report that is there, if it is one of this writer's key.
func (w *Writer) last(root, ref, commit string) (Report, error) {
	public, _ := w.Key.Public().(ed25519.PublicKey)
	return load(w.Repository, []ed25519.PublicKey{public}, root, ref, commit)
}

// says reports whether a report says of the releases what these say.
func (r Report) says(releases []Release) bool {
	have, err := json.Marshal(r.Releases)
	if err != nil {
		return false
	}
	want, err := json.Marshal(releases)
	return err == nil && bytes.Equal(have, want)
}

// origin is where the history of a repository began, by which it is known whatever its
// URL: a report must not count in another one that has a project of the same name.
// It is looked for once.
type origin struct{ root string }

func (o *origin) of(ctx context.Context, repo *gitrepo.Repository) (string, error) {
	if o.root != "" {
		return o.root, nil
	}
	head, err := repo.Fetch(ctx)
	if err != nil {
		return "", err
	}
	root, err := repo.Root(ctx, head)
	if err == nil {
		o.root = root
	}
	return root, err
}

// load reads a report and verifies it.
func load(repo *gitrepo.Repository, keys []ed25519.PublicKey, root, ref, commit string) (Report, error) {
	if commit == "" {
		return Report{}, errors.New("there is none")
	}
	snapshot, err := repo.Snapshot(commit)
	if err != nil {
		return Report{}, err
	}
	var files [2][]byte
	for i, name := range []string{dataFile, signatureFile} {
		info, err := fs.Stat(snapshot, name)
		switch {
		case err != nil:
			return Report{}, err
		case info.Size() > maxSize:
			return Report{}, fmt.Errorf("%s is longer than %d bytes", name, maxSize)
		}
		if files[i], err = snapshot.ReadFile(name); err != nil {
			return Report{}, err
		}
	}
	return open(keys, root, ref, files[0], files[1])
}
