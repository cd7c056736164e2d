package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// helpWidth is the width that help is written for, in columns.
const helpWidth = 80

// usage writes how a command is called: wrapped for a terminal of 80 columns,
// and with the flags that every command has explained once, at the root.
func usage(c *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n", strings.TrimSpace(c.UseLine()))
	if c.HasAvailableSubCommands() && c.Runnable() && c.HasParent() {
		fmt.Fprintf(&b, "  %s COMMAND\n", c.CommandPath())
	}
	if c.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	usageCommands(&b, c)
	if flags := c.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(&b, "\nFlags:\n%s\n", strings.TrimRight(flags.FlagUsagesWrapped(helpWidth), " \n"))
	}
	if !c.HasParent() {
		fmt.Fprintf(&b, "\nFlags of every command:\n%s\n", strings.TrimRight(c.PersistentFlags().FlagUsagesWrapped(helpWidth), " \n"))
		fmt.Fprintf(&b, "\n\"%s COMMAND --help\" explains a command.\n", c.Name())
	} else {
		fmt.Fprintf(&b, "\nEvery command has --repo, --branch, --project, --kubeconfig, --context,\n--age-key-file, --key-sources and -o; \"sluice --help\" explains them.\n")
	}
	_, err := c.OutOrStdout().Write([]byte(b.String()))
	return err
}

// usageCommands lists the commands below c, in their groups.
func usageCommands(b *strings.Builder, c *cobra.Command) {
	list := func(title string, in func(*cobra.Command) bool) {
		var lines []string
		for _, child := range c.Commands() {
			if (child.IsAvailableCommand() || child.Name() == "help") && in(child) {
				lines = append(lines, fmt.Sprintf("  %-12s %s", child.Name(), child.Short))
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(b, "\n%s\n%s\n", title, strings.Join(lines, "\n"))
		}
	}
	for _, g := range c.Groups() {
		list(g.Title, func(child *cobra.Command) bool { return child.GroupID == g.ID })
	}
	title := "Commands:"
	if len(c.Groups()) > 0 {
		title = "Others:"
	}
	list(title, func(child *cobra.Command) bool { return child.GroupID == "" })
	for _, child := range c.Commands() {
		if child.IsAdditionalHelpTopicCommand() {
			fmt.Fprintf(b, "  %-12s %s\n", child.Name(), child.Short)
		}
	}
}
