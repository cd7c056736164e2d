package envrepo

import (
	"errors"
	"fmt"
	"slices"
)

// CheckPruneToken judges the form of a token.
func CheckPruneToken(token string) error {
	if !prunePattern.MatchString(token) {
		return refuse("it stands in the message of every held release: kubectl get releases -A", "token %q is not the 12 hex digits that the held releases name", clip(token))
	}
	return nil
}

// AcknowledgePrune allows the deletion that a token stands for in an environment,
// which the project need not have any more.
func AcknowledgePrune(t *Tree, env, token string) (Summary, error) {
	if problem := labelProblem(env); problem != "" {
		return Summary{}, refuse("", "environment %q %s", clip(env), problem)
	}
	if err := CheckPruneToken(token); err != nil {
		return Summary{}, err
	}
	return edit(t, func(layer *Tree) (Summary, error) {
		repo, err := Open(layer)
		if err != nil {
			return Summary{}, err
		}
		if slices.Contains(repo.Project().Acknowledged(env), token) {
			return Summary{Message: fmt.Sprintf("deletion %s in %s is acknowledged already", token, env)}, nil
		}
		src, err := readFile(layer, projectFile)
		if err != nil {
			return Summary{}, err
		}
		out, err := withAcknowledgement(src, env, token)
		if err != nil {
			return Summary{}, err
		}
		if _, err := decodeProject(projectFile, out); err != nil {
			return Summary{}, err
		}
		summary := Summary{Message: fmt.Sprintf("acknowledge deletion %s in %s", token, env)}
		unknown := (*UnknownEnvironmentError)(nil)
		if _, err := repo.Environment(env); errors.As(err, &unknown) {
			summary.note("sluice.yaml lists no environment %q%s: this allows the removal of one that has left the project", env, didYouMean(env, unknown.Known))
		}
		return summary, layer.WriteFile(projectFile, out)
	})
}

// withAcknowledgement returns a sluice.yaml with one acknowledgement more.
func withAcknowledgement(src []byte, env, token string) ([]byte, error) {
	f, err := openYAML(projectFile, src)
	if err != nil {
		return nil, err
	}
	item := mapNode(0, entry{"environment", textNode(env)}, entry{"prune", textNode(token)})
	switch list := f.get(f.root, "acknowledgements"); {
	case list == nil:
		f.rewrite(f.root, keepAll, entry{"acknowledgements", listNode(0, item)})
	case isNull(list):
		f.replace(list, listNode(0, item))
	default:
		f.rewrite(list, keepAll, entry{value: item})
	}
	return f.bytes()
}
