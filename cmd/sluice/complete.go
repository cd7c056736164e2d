package main

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/secrets"
)

// completionTime bounds what a shell waits for: what is not known by then is not
// suggested.
const completionTime = 3 * time.Second

// lister suggests values for a command line so far. Text after a tab describes one.
type lister func(c *cobra.Command, args []string) ([]string, error)

// completeNames gives shell completion the names of the repository: environments
// and components from the files at hand, and what commands commit to the remote
// branch (builds, tags, pull requests) from there.
func (a *app) completeNames(root *cobra.Command) {
	environments := a.reading(fromWorktree, func(r *envrepo.Repo, _ *cobra.Command, _ []string) ([]string, error) {
		return environmentNames(r.Project()), nil
	})
	components := a.reading(fromWorktree, func(r *envrepo.Repo, _ *cobra.Command, _ []string) ([]string, error) { return r.Components() })
	builds := a.reading(fromBranch, listBuilds)
	tags := a.reading(fromBranch, listTags)
	flags := map[string]cobra.CompletionFunc{
		"environment": suggestMany(environments, ""), "environments": suggestMany(environments, ""), "component": suggest(components),
		"build": suggest(builds), "tag": suggest(tags), "tags": suggestMany(tags, ""), "mirror": suggestMany(tags, "="), "if-current": suggestMany(tags, "="),
	}
	special := map[string]cobra.CompletionFunc{
		"sluice promote --to": suggest(environments), "sluice traffic promote --to": suggest(tags),
		"sluice traffic set --tags":   suggestMany(tags, "="),
		"sluice component tag --tags": cobra.NoFileCompletions, // new ones
	}
	a.completeSecrets(root, components)
	arguments := map[string][]lister{"COMPONENT": {components}, "[COMPONENT]": {components}, "[COMPONENT] BUILD": {components, builds}, "NUMBER": {a.pulls}}
	walk(root, func(c *cobra.Command) {
		for name, f := range flags {
			if c.Flags().Lookup(name) != nil && special[c.CommandPath()+" --"+name] == nil {
				_ = c.RegisterFlagCompletionFunc(name, f)
			}
		}
		for key, f := range special {
			if path, name, _ := strings.Cut(key, " --"); path == c.CommandPath() {
				_ = c.RegisterFlagCompletionFunc(name, f)
			}
		}
		_, takes, _ := strings.Cut(c.Use, " ")
		takes, _, _ = strings.Cut(takes, " --")
		switch {
		case c.ValidArgsFunction != nil: // the command knows better
		case strings.HasSuffix(takes, "COMPONENT…]"):
			c.ValidArgsFunction = suggest(components)
		case c.CommandPath() == "sluice component tag":
			c.ValidArgsFunction = suggestEach(components)
		default: // no command takes files as arguments
			c.ValidArgsFunction = suggestEach(arguments[takes]...)
		}
	})
}

// completeSecrets suggests encrypted files, components once --environment is given, and
// the names in a file.
func (a *app) completeSecrets(root *cobra.Command, components lister) {
	files := func(c *cobra.Command, args []string) ([]string, error) {
		if environment := c.Flag("environment"); environment != nil && environment.Changed {
			return components(c, args)
		}
		return a.encryptedFiles(c.Context())
	}
	first, names := suggestEach(files), suggestEach(files, a.secretNames)
	completions := map[string]cobra.CompletionFunc{
		"list": suggest(files), "rotate": suggest(files), "updatekeys": suggest(files), "get": names, "unset": names,
		"set": orFiles(names), "edit": orFiles(first), // which may be new
		"encrypt": func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	parent, _, _ := root.Find([]string{"secrets"})
	for _, c := range parent.Commands() {
		if f := completions[c.Name()]; f != nil {
			c.ValidArgsFunction = f
		}
	}
}

// orFiles lets the shell complete files where nothing is suggested.
func orFiles(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		found, directive := f(c, args, prefix)
		if len(args) == 0 {
			directive &^= cobra.ShellCompDirectiveNoFileComp
		}
		return found, directive
	}
}

// encryptedFiles are the encrypted files of the working tree, as they are named from
// the current folder.
func (a *app) encryptedFiles(ctx context.Context) ([]string, error) {
	p, v, err := a.openSealed(ctx, "")
	if err != nil {
		return nil, err
	}
	defer v.Close()
	files, err := p.encrypted()
	if p.at.worktree == "" {
		return files, err
	}
	top := filepath.Join(resolved(p.at.worktree), filepath.FromSlash(p.at.project))
	for i, file := range files {
		if rel, err := filepath.Rel(resolved(a.Dir), filepath.Join(top, filepath.FromSlash(file))); err == nil {
			files[i] = filepath.ToSlash(rel)
		}
	}
	return files, err
}

// secretNames are the names in the file of a line.
func (a *app) secretNames(c *cobra.Command, args []string) ([]string, error) {
	p, v, err := a.openSealed(c.Context(), "")
	if err != nil {
		return nil, err
	}
	defer v.Close()
	environment, _ := c.Flags().GetString("environment")
	file, err := a.secretFile(p, environment, args[0])
	if err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(p.files, file)
	if err != nil {
		return nil, err
	}
	names, err := secrets.Names(file, data)
	var list []string
	for _, n := range names {
		list = append(list, printable(n.Name))
	}
	return list, err
}

func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, child := range c.Commands() {
		walk(child, visit)
	}
}

// reading lists from a view of the repository.
func (a *app) reading(from readFrom, list func(*envrepo.Repo, *cobra.Command, []string) ([]string, error)) lister {
	return func(c *cobra.Command, args []string) ([]string, error) {
		ctx, cancel := context.WithTimeout(c.Context(), completionTime)
		defer cancel()
		v, err := a.openView(ctx, "", from)
		if err != nil {
			return nil, err
		}
		defer v.Close()
		return list(v.Repo, c, args)
	}
}

// listBuilds are the builds of the component that the line names, newest first.
func listBuilds(r *envrepo.Repo, c *cobra.Command, args []string) ([]string, error) {
	builds, err := r.Builds(componentOf(c, args))
	var list []string
	for _, b := range builds {
		list = append(list, described(b.ID(), strings.TrimSpace(b.CreatedAt.UTC().Format("2006-01-02 15:04")+" "+cut(b.Source.Message, 50))))
	}
	return list, err
}

// listTags are the tags of the release that the line names.
func listTags(r *envrepo.Repo, c *cobra.Command, args []string) ([]string, error) {
	environment, _ := c.Flags().GetString("environment")
	if environment == "" {
		environment, _ = c.Flags().GetString("to")
	}
	rel, err := r.PartialRelease(environment, componentOf(c, args))
	if err != nil || !rel.Tagged() {
		return nil, err
	}
	var list []string
	for _, tag := range rel.Tags {
		weight := "not listed"
		if percent, listed := rel.Traffic.Weight(tag.Name); listed {
			weight = strconv.Itoa(percent) + " %"
		}
		list = append(list, described(tag.Name, strings.TrimSpace(weight+" "+buildID(tag.Digest))))
	}
	return list, nil
}

// componentOf is the component that a line names: first among its arguments, or in
// a flag.
func componentOf(c *cobra.Command, args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	component, _ := c.Flags().GetString("component")
	return component
}

// pulls are the open pull requests.
func (a *app) pulls(c *cobra.Command, _ []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTime)
	defer cancel()
	service, err := a.openPromotions(ctx)
	if err != nil {
		return nil, err
	}
	defer service.Done()
	open, err := service.List(ctx, promotion.ListOptions{State: promotion.Open})
	var list []string
	for _, p := range open {
		list = append(list, described(strconv.Itoa(p.Number), p.Title))
	}
	return list, err
}

// described is a suggestion with its description, which may come from anybody who
// can commit: nothing of it reaches a terminal as it is.
func described(value, text string) string {
	if text == "" {
		return value
	}
	return value + "\t" + printable(text)
}

// suggest completes a value, or any number of arguments. What cannot be listed is
// not suggested, without a word: an error would garble the line that is being
// typed.
func suggest(list lister) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		found, err := list(c, args)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(slices.Clone(found), func(s string) bool {
			value, _, _ := strings.Cut(s, "\t")
			return !strings.HasPrefix(value, prefix) || slices.Contains(args, value)
		}), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// suggestEach completes arguments that are each of their own kind, and no more of
// them.
func suggestEach(lists ...lister) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(lists) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return suggest(lists[len(args)])(c, args, prefix)
	}
}

// suggestMany completes the last of several values with commas between them, each
// once; suffix is what a value goes on with.
func suggestMany(list lister, suffix string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		before := prefix[:strings.LastIndex(prefix, ",")+1]
		var given []string
		for _, value := range strings.Split(before, ",") {
			name, _, _ := strings.Cut(value, "=")
			given = append(given, name)
		}
		found, directive := suggest(list)(c, args, prefix[len(before):])
		var values []string
		for _, s := range found {
			value, text, _ := strings.Cut(s, "\t")
			if !slices.Contains(given, value) {
				values = append(values, described(before+value+suffix, text))
			}
		}
		if suffix != "" {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return values, directive
	}
}
