package local

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/promotion"
)

// Bounds of what is read from Ref, which anybody who may push can write.
const (
	maxRecord   = 512 << 10 // bytes
	maxStatuses = 100       // on one commit
	maxComments = 100       // on one pull request
)

const (
	archiveFolder = "archive"
	statusFolder  = "statuses"
)

// record is one pull request as it is stored.
type record struct {
	Number      int             `json:"number"`
	Title       string          `json:"title"`
	State       promotion.State `json:"state"`
	Reason      string          `json:"reason,omitempty"`
	Branch      string          `json:"branch"`
	Target      string          `json:"target"`
	Environment string          `json:"environment"`
	Components  []string        `json:"components"`
	Labels      []string        `json:"labels,omitempty"`
	Head        string          `json:"head"`
	Merged      string          `json:"merged,omitempty"` // the revision of the target that holds it
	Author      string          `json:"author,omitempty"`
	CreatedAt   time.Time       `json:"created"`
	UpdatedAt   time.Time       `json:"updated"`
	Body        string          `json:"body"`

	Statuses []promotion.Status  `json:"statuses,omitempty"` // of the head, once the record is archived
	Comments []promotion.Comment `json:"comments,omitempty"` // by key

	unreadable bool // shown, never written
}

// decode reads a record and checks everything that is acted upon.
func decode(number int, data []byte) (record, error) {
	var r record
	if len(data) > maxRecord {
		return r, fmt.Errorf("longer than %d bytes", maxRecord)
	}
	if err := yaml.UnmarshalStrict(data, &r); err != nil {
		return r, err
	}
	environment, component, ok := promotion.ParseBranch(r.Branch)
	switch {
	case r.Number != number:
		return r, fmt.Errorf("number is %d", r.Number)
	case r.State != promotion.Open && r.State != promotion.Merged && r.State != promotion.Closed:
		return r, fmt.Errorf("unknown state %q", r.State)
	case !ok:
		return r, fmt.Errorf("%q is not the branch of a promotion", r.Branch)
	case r.Environment != environment:
		return r, fmt.Errorf("environment %q is not the branch's", r.Environment)
	case component != promotion.AllComponents && !slices.Equal(r.Components, []string{component}):
		return r, fmt.Errorf("components %q are not the branch's", r.Components)
	case !promotion.IsCommit(r.Head):
		return r, fmt.Errorf("head %q is not a commit", r.Head)
	case len(r.Comments) > maxComments:
		return r, fmt.Errorf("more than %d comments", maxComments)
	case r.Merged != "" && !promotion.IsCommit(r.Merged):
		return r, fmt.Errorf("merged %q is not a commit", r.Merged)
	}
	return r, nil
}

// unreadable stands for a record that cannot be read: it is shown as closed so
// that one broken file hides no other pull request, and never written.
func unreadable(number int, err error) record {
	return record{
		Number: number, State: promotion.Closed, unreadable: true,
		Title:  "(unreadable record)",
		Reason: firstLine(fmt.Sprintf("%s:%d.yaml: %v", Ref, number, err)),
	}
}

func (r record) encode() ([]byte, error) {
	data, err := yaml.Marshal(r)
	if err == nil && len(data) > maxRecord {
		err = fmt.Errorf("pull request #%d: the record is longer than %d bytes", r.Number, maxRecord)
	}
	return data, err
}

// openPath is where an open record is kept.
func openPath(number int) string { return fmt.Sprintf("%d.yaml", number) }

// archivePath is where a merged or closed record is kept: in folders of a
// hundred, so that a write never rewrites a long list.
func archivePath(number int) string {
	return fmt.Sprintf("%s/%d/%d.yaml", archiveFolder, number/100, number)
}

// apply takes over what a specification says.
func (r *record) apply(spec promotion.Spec) {
	r.Title, r.Body = spec.Title, spec.Body
	r.Branch, r.Target, r.Head = spec.Branch, spec.Target, spec.Head
	r.Environment = spec.Environment
	r.Components = sorted(spec.Components)
	r.Labels = sorted(spec.Labels)
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func (r record) clone() record {
	r.Components, r.Labels, r.Comments = slices.Clone(r.Components), slices.Clone(r.Labels), slices.Clone(r.Comments)
	return r
}

// comment takes over the comment of a key and reports whether that changes anything.
func (r *record) comment(key, body string) bool {
	at, found := slices.BinarySearchFunc(r.Comments, key, func(c promotion.Comment, key string) int { return strings.Compare(c.Key, key) })
	if !found {
		r.Comments = slices.Insert(r.Comments, at, promotion.Comment{Key: key, Body: body})
		return true
	}
	changed := r.Comments[at].Body != body
	r.Comments[at].Body = body
	return changed
}

// equal compares what a specification sets.
func (r record) equal(o record) bool {
	return r.Title == o.Title && r.Body == o.Body && r.Branch == o.Branch && r.Target == o.Target &&
		r.Head == o.Head && r.Environment == o.Environment &&
		slices.Equal(r.Components, o.Components) && slices.Equal(r.Labels, o.Labels)
}

func (r record) pullRequest() promotion.PullRequest {
	return promotion.PullRequest{
		Number: r.Number, Title: r.Title, Body: r.Body, State: r.State, Reason: r.Reason,
		Branch: r.Branch, Target: r.Target, Head: r.Head, MergedRevision: r.Merged, Author: r.Author,
		Environment: r.Environment, Components: slices.Clone(r.Components), Labels: slices.Clone(r.Labels),
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

// statusFile is statuses/<commit>.yaml.
type statusFile struct {
	Statuses []promotion.Status `json:"statuses"`
}

func statusPath(commit string) string { return path.Join(statusFolder, commit+".yaml") }

func encodeStatuses(statuses []promotion.Status) ([]byte, error) {
	return yaml.Marshal(statusFile{Statuses: statuses})
}

func decodeStatuses(data []byte) ([]promotion.Status, error) {
	var file statusFile
	if len(data) > maxRecord {
		return nil, fmt.Errorf("longer than %d bytes", maxRecord)
	}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return nil, err
	}
	return file.Statuses[:min(len(file.Statuses), maxStatuses)], nil
}

// mergeStatuses replaces statuses of the same context, keeps the others, and
// sorts by context.
func mergeStatuses(present, published []promotion.Status) []promotion.Status {
	byContext := map[string]promotion.Status{}
	for _, s := range slices.Concat(present, published) {
		if runes := []rune(s.Description); len(runes) > promotion.MaxDescription {
			s.Description = string(runes[:promotion.MaxDescription])
		}
		byContext[s.Context] = s
	}
	var merged []promotion.Status
	for _, s := range byContext {
		merged = append(merged, s)
	}
	slices.SortFunc(merged, func(a, b promotion.Status) int { return strings.Compare(a.Context, b.Context) })
	return merged
}
