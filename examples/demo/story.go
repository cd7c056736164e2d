package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// The digests of the story. The development control plane never lets an image
// become ready whose digest begins with "bad".
var (
	firstAPI  = digestOf("a1b2c3d4e5f6") // runs everywhere when the story begins
	secondWeb = digestOf("2222aaaa3333")
	secondAPI = digestOf("3f2a9c0d41e7")
	thirdAPI  = digestOf("7c1e5b9a0f42")
	brokenAPI = digestOf("bad0bad0bad0")
)

const production = "shop-production"

func digestOf(prefix string) string {
	return "sha256:" + prefix + strings.Repeat("0", 64-len(prefix))
}

// scene is one part of the story.
type scene struct {
	title string
	play  func(context.Context, *stage) error
}

var scenes = []scene{
	{"The cluster follows the repository", playStart},
	{"Record two builds: development follows", playBuilds},
	{"Promote to staging by a pull request", playStaging},
	{"Promote to production: the idle tag gets it, traffic stays", playProduction},
	{"Deploy to the idle tag, mirror, shift, promote, and back", playTraffic},
	{"A broken build: production is untouched", playBroken},
	{"git revert is a rollback", playRevert},
	{"What runs where", playStatus},
}

// sequence runs steps until one fails.
func sequence(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// story holds the stage's verbs with the context already given, so that the
// scenes read as lists.
type story struct {
	ctx context.Context
	*stage
}

func (s story) sluice(args ...string) func() error {
	return func() error { return s.run(s.ctx, "sluice", args...) }
}

func (s story) git(args ...string) func() error {
	clone := filepath.Join(s.dir, "shop")
	return func() error { return s.run(s.ctx, "git", append([]string{"-C", clone}, args...)...) }
}

func (s story) running(namespace, name, digest string) func() error {
	return func() error { return s.runs(s.ctx, namespace, name, digest) }
}

func (s story) pods(namespace, name string, n int64) func() error {
	return func() error { return s.scaled(s.ctx, namespace, name, n) }
}

func (s story) routing(want string) func() error {
	return func() error { return s.routed(s.ctx, production, "api", want) }
}

func (s story) says(namespace, name, kind, status, message string) func() error {
	return func() error { return s.condition(s.ctx, namespace, name, kind, status, message) }
}

func playStart(ctx context.Context, st *stage) error {
	s := story{ctx, st}
	return sequence(
		s.running("shop-development", "api", firstAPI),
		s.running("shop-staging", "api", firstAPI),
		s.running(production, "api-blue", firstAPI),
		s.routing("api-blue:100"),
		s.says(production, "api", "Ready", "True", ""),
	)
}

func playBuilds(ctx context.Context, st *stage) error {
	s := story{ctx, st}
	return sequence(
		s.sluice("build", "record", "--component", "web", "--digest", secondWeb, "--check", "trivy=passed:0 critical"),
		s.sluice("build", "record", "--component", "api", "--digest", secondAPI, "--check", "trivy=passed:0 critical",
			"--source-url", "https://example.com/shop/api", "--source-commit", "9f8e7d6c5b4a39281706f5e4d3c2b1a098765432", "--source-message", "Fix cart"),
		s.running("shop-development", "web", secondWeb),
		s.running("shop-development", "api", secondAPI),
		s.sluice("build", "list"),
	)
}

func playStaging(ctx context.Context, st *stage) error {
	s := story{ctx, st}
	return sequence(
		s.says("shop-development", "api", "Ready", "True", ""),
		s.says("shop-development", "web", "Ready", "True", ""),
		s.sluice("promote", "--all", "--to", "staging"),
		s.sluice("pr", "list"),
		s.sluice("pr", "merge", "1"),
		s.running("shop-staging", "web", secondWeb),
		s.running("shop-staging", "api", secondAPI),
		s.says("shop-staging", "api", "Ready", "True", ""),
	)
}

func playProduction(ctx context.Context, st *stage) error {
	s := story{ctx, st}
	return sequence(
		s.sluice("promote", "api", "--to", "production"),
		s.sluice("pr", "show", "2"),
		s.sluice("pr", "merge", "2", "--wait", "30s"), // staging soaks for some seconds
		s.running(production, "api-green", secondAPI),
		s.running(production, "api-blue", firstAPI),
		s.routing("api-blue:100 api-green:0"),
		s.sluice("promote", "api", "--to", "production"),
	)
}

func playTraffic(ctx context.Context, st *stage) error {
	s := story{ctx, st}
	traffic := func(args ...string) func() error {
		return s.sluice(append(append([]string{"traffic"}, args[0], "api", "--environment", "production"), args[1:]...)...)
	}
	return sequence(
		s.sluice("build", "record", "--component", "api", "--digest", thirdAPI, "--check", "trivy=passed"),
		s.sluice("deploy", "api", "--environment", "production", "--build", buildID(thirdAPI), "--bluegreen"),
		s.running(production, "api-green", thirdAPI),
		traffic("set", "--tags", "blue=100,green=0", "--mirror", "green=5"),
		s.routing("api-blue:100 api-green:0 mirror api-green:5"),
		traffic("set", "--tags", "blue=90,green=10"),
		s.routing("api-blue:90 api-green:10"),
		traffic("get"),
		traffic("promote"),
		s.routing("api-blue:0 api-green:100"),
		s.pods(production, "api-blue", 2),
		traffic("promote"),
		s.routing("api-blue:100 api-green:0"),
		s.pods(production, "api-green", 2),
	)
}

func playBroken(ctx context.Context, st *stage) error {
	s := story{ctx, st}
	same, err := s.untouched(ctx, production, "api-blue")
	if err != nil {
		return err
	}
	return sequence(
		s.sluice("build", "record", "--component", "api", "--digest", brokenAPI, "--check", "trivy=passed"),
		s.says("shop-development", "api", "Ready", "False", "ImagePullBackOff"),
		s.sluice("promote", "api", "--to", "staging"),
		func() error { return s.fails(ctx, "sluice", "pr", "merge", "3") },
		s.sluice("deploy", "api", "--environment", "production", "--build", buildID(brokenAPI), "--tag", "green"),
		s.sluice("traffic", "set", "api", "--environment", "production", "--tags", "blue=50,green=50"),
		s.says(production, "api", "Ready", "False", "green"),
		func() error { return same(ctx) },
	)
}

func playRevert(ctx context.Context, st *stage) error {
	s := story{ctx, st}
	return sequence(
		s.git("pull", "-q"),
		s.git("revert", "--no-edit", "HEAD~2..HEAD"),
		s.git("push", "-q"),
		s.running(production, "api-green", thirdAPI),
		s.routing("api-blue:100 api-green:0"),
		s.says(production, "api", "Ready", "True", ""),
		s.sluice("rollback", "api", "--environment", "development", "--now"),
		s.running("shop-development", "api", thirdAPI),
		s.says("shop-development", "api", "Ready", "True", ""),
	)
}

func playStatus(ctx context.Context, st *stage) error {
	s := story{ctx, st}
	out, err := s.output(ctx, "sluice", "status")
	if err != nil {
		return err
	}
	for _, want := range []string{"development", "staging", "production", buildID(thirdAPI)} {
		if !strings.Contains(out, want) {
			return fmt.Errorf("status does not mention %s", want)
		}
	}
	return s.run(ctx, "sluice", "history", "api", "--environment", "production", "--limit", "5")
}
