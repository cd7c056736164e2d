package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-dev/sluice/gitrepo"
	"github.com/sluice-dev/sluice/promotion"
)

// view is everything that was to be read at one moment: the refs of a single
// listing and the records they lead to.
type view struct {
	repo       *gitrepo.Repository
	target     string            // commit of the target branch
	heads      map[string]string // commit of each promotion branch
	pulls      string            // commit of Ref, "" when there is none
	records    *gitrepo.Snapshot // nil when there is none
	current    []record          // the records outside the archive, as they stand
	settled    []record          // those of current that are stored as open and no longer are
	nextNumber int
}

// look reads the refs in one listing, so that branch and record belong
// together.
func (f *Forge) look(ctx context.Context) (view, error) {
	target := heads + f.branch
	refs, err := f.repo.FetchRefs(ctx, append(promotion.HeadRefs(), target, Ref)...)
	if err != nil {
		return view{}, fmt.Errorf("reading pull requests: %w", err)
	}
	v := view{repo: f.repo, target: refs[target], heads: map[string]string{}, pulls: refs[Ref], nextNumber: 1}
	if v.target == "" {
		return view{}, fmt.Errorf("reading pull requests: branch %s: %w", f.branch, gitrepo.ErrUnknownBranch)
	}
	for name, hash := range refs {
		if branch, ok := strings.CutPrefix(name, heads); ok && name != target {
			v.heads[branch] = hash
		}
	}
	if v.pulls == "" {
		return v, nil
	}
	if v.records, err = f.repo.Snapshot(v.pulls); err != nil {
		return view{}, fmt.Errorf("reading %s: %w", Ref, err)
	}
	return v, v.load()
}

// load reads the open records and settles each; of the archive only the last
// names.
func (v *view) load() error {
	open, err := v.numbers(".", ".yaml")
	if err != nil {
		return err
	}
	newest, err := v.newestArchived()
	if err != nil {
		return err
	}
	for _, number := range append(slices.Clone(open), newest) {
		v.nextNumber = max(v.nextNumber, number+1)
	}
	for _, number := range open {
		stored := v.read(openPath(number), number)
		rec, err := v.settle(stored)
		if err != nil {
			return err
		}
		if rec.State != stored.State {
			v.settled = append(v.settled, rec)
		}
		v.current = append(v.current, rec)
	}
	return nil
}

// newestArchived is the highest number in the archive, 0 when it is empty.
func (v *view) newestArchived() (int, error) {
	hundreds, err := v.numbers(archiveFolder, "")
	if err != nil || len(hundreds) == 0 {
		return 0, err
	}
	numbers, err := v.numbers(fmt.Sprintf("%s/%d", archiveFolder, hundreds[len(hundreds)-1]), ".yaml")
	if err != nil || len(numbers) == 0 {
		return 0, err
	}
	return numbers[len(numbers)-1], nil
}

// archive reads all merged and closed records.
func (v *view) archive() ([]record, error) {
	if v.records == nil {
		return nil, nil
	}
	hundreds, err := v.numbers(archiveFolder, "")
	if err != nil {
		return nil, err
	}
	var list []record
	for _, hundred := range hundreds {
		numbers, err := v.numbers(fmt.Sprintf("%s/%d", archiveFolder, hundred), ".yaml")
		if err != nil {
			return nil, err
		}
		for _, number := range numbers {
			list = append(list, v.read(archivePath(number), number))
		}
	}
	return list, nil
}

// numbers lists the entries of a folder that are a number and a suffix, lowest
// first.
func (v *view) numbers(folder, suffix string) ([]int, error) {
	entries, err := v.records.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", Ref, err)
	}
	var list []int
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), suffix)
		number, err := strconv.Atoi(name)
		if ok && err == nil && number >= 0 && strconv.Itoa(number) == name {
			list = append(list, number)
		}
	}
	slices.Sort(list)
	return list, nil
}

func (v *view) read(path string, number int) record {
	data, err := v.records.ReadFile(path)
	if err != nil {
		return unreadable(number, err)
	}
	rec, err := decode(number, data)
	if err != nil {
		return unreadable(number, err)
	}
	return rec
}

// settle says where an open record really stands: people may have merged,
// pushed to or deleted its branch with plain Git.
func (v *view) settle(rec record) (record, error) {
	if rec.State != promotion.Open {
		return rec, nil
	}
	present := v.heads[rec.Branch]
	if present != "" {
		rec.Head = present
	}
	if revision, err := promotion.Landed(v.repo, v.target, rec.Head); err != nil {
		return rec, fmt.Errorf("pull request #%d: %w", rec.Number, err)
	} else if revision != "" {
		rec.State, rec.Merged = promotion.Merged, revision
		return rec, nil
	}
	if present == "" {
		rec.State, rec.Reason = promotion.Closed, "the branch was deleted"
	}
	return rec, nil
}

// open returns the open record of a branch.
func (v *view) open(branch string) (record, bool) {
	for _, rec := range v.current {
		if rec.State == promotion.Open && rec.Branch == branch {
			return rec, true
		}
	}
	return record{}, false
}

// get returns the record of a number, wherever it is kept.
func (v *view) get(number int) (record, error) {
	for _, rec := range v.current {
		if rec.Number == number {
			return rec, nil
		}
	}
	path := archivePath(number)
	if number <= 0 || !v.has(path) {
		return record{}, &promotion.RequestError{Number: number, Reason: promotion.ErrNotFound}
	}
	return v.read(path, number), nil
}

func (v *view) has(path string) bool {
	if v.records == nil {
		return false
	}
	_, ok := v.records.Hash(path)
	return ok
}

// stored reports whether an open record is on file as it is.
func (v *view) stored(rec record) bool {
	path := openPath(rec.Number)
	return v.has(path) && v.read(path, rec.Number).equal(rec)
}

// statuses reads what was published on a commit.
func (v *view) statuses(commit string) ([]promotion.Status, error) {
	path := statusPath(commit)
	if !v.has(path) {
		return nil, nil
	}
	data, err := v.records.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", Ref, err)
	}
	statuses, err := decodeStatuses(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s:%s: %w", Ref, path, err)
	}
	return statuses, nil
}

// sweep adds to a transaction what others have settled by plain Git, unless
// the transaction files that record itself.
func (v *view) sweep(t *transaction) error {
	for _, rec := range v.settled {
		if _, filed := t.write[archivePath(rec.Number)]; filed {
			continue
		}
		if err := v.file(t, rec); err != nil {
			return err
		}
	}
	return nil
}

// file adds to a transaction that a record which is no longer open goes to the
// archive, and with it the statuses of its head, those that the transaction sets
// included.
func (v *view) file(t *transaction, rec record) error {
	path := statusPath(rec.Head)
	published, err := v.statuses(rec.Head)
	if set, ok := t.write[path]; ok {
		published, err = decodeStatuses(set)
		delete(t.write, path)
	}
	if err != nil {
		published = nil // unreadable ones are lost
	}
	rec.Statuses = mergeStatuses(rec.Statuses, published)
	data, err := rec.encode()
	if err != nil {
		return err
	}
	t.put(archivePath(rec.Number), data)
	t.remove = append(t.remove, openPath(rec.Number))
	if v.has(path) {
		t.remove = append(t.remove, path)
	}
	return nil
}
