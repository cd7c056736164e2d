package gitea

import (
	"context"
	"fmt"

	"code.gitea.io/sdk/gitea"
)

const labelColor = "#1d76db"

// label adds labels to a pull request.
func (f *Forge) label(ctx context.Context, number int64, names []string) error {
	if len(names) == 0 {
		return nil
	}
	ids, err := f.labelIDs(ctx, names)
	if err != nil {
		return err
	}
	c, err := f.client(ctx)
	if err != nil {
		return err
	}
	_, response, err := c.AddIssueLabels(f.options.Owner, f.options.Name, number, gitea.IssueLabelsOption{Labels: ids})
	if err != nil {
		return f.failed(fmt.Sprintf("labelling pull request #%d", number), response, err)
	}
	return nil
}

// labelIDs are the labels of these names; what is missing is made. Of several
// labels of one name, which Gitea allows, it is the oldest.
func (f *Forge) labelIDs(ctx context.Context, names []string) ([]int64, error) {
	if len(names) == 0 {
		return nil, nil
	}
	c, err := f.client(ctx)
	if err != nil {
		return nil, err
	}
	present, err := f.labels(c)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, name := range sorted(names) {
		id, ok := present[name]
		if !ok {
			made, response, err := c.CreateLabel(f.options.Owner, f.options.Name, gitea.CreateLabelOption{
				Name: name, Color: labelColor, Description: "made by Sluice",
			})
			if err != nil {
				return nil, f.failed(fmt.Sprintf("making the label %q", name), response, err)
			}
			id = made.ID
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// labels are the repository's labels by name.
func (f *Forge) labels(c *gitea.Client) (map[string]int64, error) {
	byName := map[string]int64{}
	o := gitea.ListLabelsOptions{ListOptions: gitea.ListOptions{Page: 1, PageSize: pageSize}}
	for range maxPages {
		list, response, err := c.ListRepoLabels(f.options.Owner, f.options.Name, o)
		if err != nil {
			return nil, f.failed("listing the labels", response, err)
		}
		for _, label := range list {
			if id, ok := byName[label.Name]; !ok || label.ID < id {
				byName[label.Name] = label.ID
			}
		}
		if o.Page = response.NextPage; o.Page == 0 {
			return byName, nil
		}
	}
	return nil, f.tooMany("listing the labels")
}
