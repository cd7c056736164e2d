package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/sluice-dev/sluice/envrepo"
)

// origin is where a build came from, as a CI system tells it.
type origin struct {
	system string // what is named to people
	source envrepo.Source
	run    envrepo.Run
	note   string // what had to be left out, and why
}

// originFlags are the flags whose defaults an origin is, in the order of the notes.
var originFlags = []struct {
	flag  string
	field func(*envrepo.Build) *string
}{
	{"source-url", func(b *envrepo.Build) *string { return &b.Source.Repository }},
	{"source-commit", func(b *envrepo.Build) *string { return &b.Source.Commit }},
	{"source-ref", func(b *envrepo.Build) *string { return &b.Source.Ref }},
	{"source-message", func(b *envrepo.Build) *string { return &b.Source.Message }},
	{"run-id", func(b *envrepo.Build) *string { return &b.Run.ID }},
	{"run-url", func(b *envrepo.Build) *string { return &b.Run.URL }},
}

// origins reads what the environment says, the most particular first: variables of
// Sluice's own, which any CI system can set, then those of the systems it knows. What
// stands in them is as trustworthy as whoever pushed the commit.
func origins(getenv func(string) string, readFile func(string) ([]byte, error)) []origin {
	own := origin{
		system: "SLUICE_ variables",
		source: envrepo.Source{Repository: getenv("SLUICE_SOURCE_URL"), Commit: getenv("SLUICE_SOURCE_COMMIT"),
			Ref: getenv("SLUICE_SOURCE_REF"), Message: getenv("SLUICE_SOURCE_MESSAGE")},
		run: envrepo.Run{ID: getenv("SLUICE_RUN_ID"), URL: getenv("SLUICE_RUN_URL")},
	}
	found := []origin{own}
	switch {
	case getenv("GITHUB_ACTIONS") == "true":
		found = append(found, gitHubOrigin(getenv, readFile))
	case getenv("GITLAB_CI") == "true":
		found = append(found, gitLabOrigin(getenv))
	}
	return found
}

// mergeRef is what GitHub builds for a pull request: a commit that merges it for
// trial, and that is gone once the pull request is.
var mergeRef = regexp.MustCompile(`^refs/pull/[0-9]+/merge$`)

// gitHubOrigin reads the variables of GitHub Actions (and of Gitea and Forgejo, which
// set the same). The run is named without its attempt, so that running it again
// records the same build.
func gitHubOrigin(getenv func(string) string, readFile func(string) ([]byte, error)) origin {
	o := origin{system: "GitHub Actions"}
	server, repository := strings.TrimSuffix(getenv("GITHUB_SERVER_URL"), "/"), getenv("GITHUB_REPOSITORY")
	if server != "" && repository != "" {
		o.source.Repository = server + "/" + repository
	}
	if o.run.ID = getenv("GITHUB_RUN_ID"); o.run.ID != "" && o.source.Repository != "" {
		o.run.URL = o.source.Repository + "/actions/runs/" + o.run.ID
	}
	o.source.Commit, o.source.Ref = getenv("GITHUB_SHA"), getenv("GITHUB_REF")
	event := readGitHubEvent(getenv("GITHUB_EVENT_PATH"), readFile)
	if event.HeadCommit.ID == o.source.Commit {
		o.source.Message = event.HeadCommit.Message
	}
	if mergeRef.MatchString(o.source.Ref) {
		o.source.Commit, o.source.Message = event.PullRequest.Head.SHA, event.PullRequest.Title
		if o.source.Commit == "" {
			o.note = "GITHUB_SHA is a trial merge of the pull request, which will be gone: the commit is left out; give it with --source-commit"
		}
	}
	return o
}

// gitHubEvent is what is read of the file that describes the event.
type gitHubEvent struct {
	HeadCommit struct {
		ID      string `json:"id"`
		Message string `json:"message"`
	} `json:"head_commit"`
	PullRequest struct {
		Title string `json:"title"`
		Head  struct {
			SHA string `json:"sha"`
		} `json:"head"`
	} `json:"pull_request"`
}

// readGitHubEvent is empty when there is no event to be read: it only adds to what
// the variables say.
func readGitHubEvent(file string, readFile func(string) ([]byte, error)) (event gitHubEvent) {
	if file == "" {
		return event
	}
	data, err := readFile(file)
	if err != nil || json.Unmarshal(data, &event) != nil {
		return gitHubEvent{}
	}
	return event
}

// maxEvent bounds the file that describes an event, in bytes; GitHub sends at most 25 MB.
const maxEvent = 25 << 20

// readEvent reads the file of an event.
func readEvent(file string) ([]byte, error) { return readBounded(file, maxEvent) }

// gitLabOrigin reads the variables of GitLab CI. The run is the pipeline, so that a
// job which is retried records the same build.
func gitLabOrigin(getenv func(string) string) origin {
	o := origin{
		system: "GitLab CI",
		source: envrepo.Source{Repository: getenv("CI_PROJECT_URL"), Commit: getenv("CI_COMMIT_SHA"), Message: getenv("CI_COMMIT_MESSAGE")},
		run:    envrepo.Run{ID: getenv("CI_PIPELINE_ID"), URL: getenv("CI_PIPELINE_URL")},
	}
	if o.run.URL == "" {
		o.run.URL = getenv("CI_JOB_URL")
	}
	switch name := getenv("CI_COMMIT_REF_NAME"); {
	case getenv("CI_MERGE_REQUEST_REF_PATH") != "":
		o.source.Ref = getenv("CI_MERGE_REQUEST_REF_PATH")
	case name == "":
	case getenv("CI_COMMIT_TAG") != "":
		o.source.Ref = "refs/tags/" + name
	default:
		o.source.Ref = "refs/heads/" + name
	}
	// Set where the pipeline builds a trial merge: the commit that somebody pushed.
	if head := getenv("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA"); head != "" {
		o.source.Commit = head
		o.source.Message = getenv("CI_MERGE_REQUEST_TITLE")
	}
	return o
}

// maxMessage is how much is kept of a commit's subject, in characters.
const maxMessage = 200

// addOrigin fills in what no flag gave. A commit and its message belong together, so
// a commit from elsewhere takes no message from the environment; the same is true of
// a run and its address. The notes say what was taken from where.
func addOrigin(b *envrepo.Build, given func(flag string) bool, found []origin) (notes []string) {
	message, run := !given("source-commit"), !given("run-id") && !given("run-url")
	for _, o := range found {
		said := envrepo.Build{Source: o.source, Run: o.run}
		said.Source.Message = cut(printable(strings.ReplaceAll(firstLine(said.Source.Message), "\t", " ")), maxMessage)
		var taken []string
		for _, f := range originFlags {
			to, value := f.field(b), *f.field(&said)
			skip := strings.HasPrefix(f.flag, "run-") && !run || f.flag == "source-message" && !message
			if value == "" || *to != "" || given(f.flag) || skip {
				continue
			}
			*to = value
			taken = append(taken, fmt.Sprintf("--%s %s", f.flag, cut(envrepo.WithoutCredentials(value), maxMessage)))
		}
		message = message && b.Source.Commit == ""
		run = run && b.Run == (envrepo.Run{})
		if len(taken) > 0 {
			notes = append(notes, "from "+o.system+": "+strings.Join(taken, ", "))
		}
		if o.note != "" && b.Source.Commit == "" {
			notes = append(notes, o.note)
		}
	}
	return notes
}
