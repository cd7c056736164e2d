package local

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// Merge implements promotion.Forge: a merge commit with two parents, made from
// whole files. Target, record and the deletion of the branch go in one push.
func (f *Forge) Merge(ctx context.Context, number int, m promotion.MergeSpec) (string, error) {
	var revision string
	err := f.update(ctx, func(v view) (transaction, error) {
		rec, err := v.get(number)
		if err != nil {
			return transaction{}, err
		}
		if err := f.mergeable(v, rec, m); err != nil {
			return transaction{}, err
		}
		edit, err := threeWay(v, rec)
		if err != nil {
			return transaction{}, err
		}
		edit.Message = m.Message
		if edit.Message == "" {
			edit.Message = fmt.Sprintf("Merge pull request #%d: %s", number, rec.Title)
		}
		revision, err = f.repo.WriteCommit([]string{v.target, rec.Head}, v.target, edit)
		if err != nil {
			return transaction{}, fmt.Errorf("merging pull request #%d: %w", number, err)
		}
		rec.State, rec.Merged, rec.UpdatedAt = promotion.Merged, revision, f.Now().UTC().Truncate(time.Second)
		t := transaction{
			message: fmt.Sprintf("Merge #%d: %s", number, rec.Title),
			refs: []gitrepo.RefUpdate{
				{Name: heads + f.branch, Old: v.target, New: revision},
				{Name: heads + rec.Branch, Old: rec.Head},
			},
		}
		return t, v.file(&t, rec)
	})
	if err != nil {
		return "", err
	}
	return revision, nil
}

// mergeable holds a record against what is asked to be merged.
func (f *Forge) mergeable(v view, rec record, m promotion.MergeSpec) error {
	switch {
	case rec.State != promotion.Open:
		return &promotion.RequestError{Number: rec.Number, Reason: promotion.ErrClosed, Detail: "it is " + string(rec.State)}
	case rec.Target != f.branch:
		return &promotion.RequestError{
			Number: rec.Number, Reason: promotion.ErrRefused,
			Detail: fmt.Sprintf("it merges into %s, not %s", rec.Target, f.branch),
		}
	case rec.Head != m.Head:
		return &promotion.RequestError{Number: rec.Number, Reason: promotion.ErrHeadMoved, Detail: "it is at " + rec.Head}
	case m.Target != "" && m.Target != v.target:
		return &promotion.RequestError{Number: rec.Number, Reason: promotion.ErrTargetMoved, Detail: "it is at " + v.target}
	}
	return nil
}

// threeWay merges file by file: what only the branch changed is taken over,
// what both changed must have become the same.
func threeWay(v view, rec record) (gitrepo.Edit, error) {
	edit := gitrepo.Edit{Write: map[string][]byte{}}
	changes, related, err := promotion.Compare(v.repo, v.target, rec.Head)
	switch {
	case err != nil:
		return edit, fmt.Errorf("merging pull request #%d: %w", rec.Number, err)
	case !related:
		return edit, &promotion.RequestError{
			Number: rec.Number, Reason: promotion.ErrMergeConflict, Detail: "its history has nothing in common with the target",
		}
	case len(changes.Conflicts) > 0:
		return edit, &promotion.ConflictError{Number: rec.Number, Files: changes.Conflicts}
	}
	theirs, err := v.repo.Snapshot(rec.Head)
	if err != nil {
		return edit, fmt.Errorf("merging pull request #%d: %w", rec.Number, err)
	}
	for _, path := range changes.Take {
		if err := take(&edit, theirs, path); err != nil {
			return edit, fmt.Errorf("merging pull request #%d: %w", rec.Number, err)
		}
	}
	return edit, nil
}

// take adds the head's file, or its deletion, to the merge.
func take(edit *gitrepo.Edit, head *gitrepo.Snapshot, path string) error {
	if _, ok := head.Hash(path); !ok {
		edit.Delete = append(edit.Delete, path)
		return nil
	}
	info, err := fs.Stat(head, path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file: %w", path, promotion.ErrRefused)
	}
	edit.Write[path], err = head.ReadFile(path)
	return err
}
