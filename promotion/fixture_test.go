package promotion

import (
	"strings"
	"time"

	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render/diff"
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

// sound is an Input that passes every gate.
func sound() Input {
	build := func(c, created, commit, message string) *envrepo.Build {
		return &envrepo.Build{
			Component: "api", Image: "registry.example.com/shop/api", Digest: digest(c), CreatedAt: at(created),
			Source: envrepo.Source{
				Repository: "https://git.example.com/shop/api", Commit: strings.Repeat(commit, 40),
				Ref: "refs/heads/main", Message: message,
			},
			Run:    envrepo.Run{ID: "8841", URL: "https://ci.example.com/runs/8841"},
			Config: &envrepo.Contract{Required: []string{"CACHE_ADDR", "DATABASE_URL"}},
			Checks: []envrepo.Check{{Name: "trivy", Status: "passed", Summary: "0 critical", URL: "https://ci.example.com/runs/8841/trivy"}, {Name: "unit", Status: "passed"}},
		}
	}
	old := build("a", "2026-11-20T10:00:00Z", "1", "Start")
	mid := build("b", "2026-11-20T12:00:00Z", "2", "Add cart\n\nwith a long description")
	new := build("c", "2026-11-21T10:00:00Z", "3", "Fix cart")
	return Input{
		Now: at("2026-11-21T12:00:00Z"), Environment: "production", Declared: true,
		Policy: envrepo.Promotion{From: "staging", Gates: envrepo.Gates{
			Healthy: true, Soak: 30 * time.Minute, Checks: []string{"trivy"}, Config: true,
		}},
		Branch: "main", Target: "main", Head: "sluice/promote/production/api",
		Components: []ComponentInput{{
			Name: "api", Tag: "green", Old: old.Digest, New: new.Digest, OldBuild: old, NewBuild: new,
			Between: []envrepo.Build{*new, *mid}, Source: new.Digest,
			OldTraffic: &envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}}},
			NewTraffic: &envrepo.Traffic{Weights: []envrepo.Weight{{Tag: "blue", Percent: 100}, {Tag: "green", Percent: 0}}},
			Contracts: []ContractInput{
				{Role: "new digest", Tag: "green", Digest: new.Digest, Known: true, Required: []string{"CACHE_ADDR", "DATABASE_URL"}},
				{Role: "running", Tag: "blue", Digest: mid.Digest, Known: true, Required: []string{"CACHE_ADDR"}},
				{Role: "rollback target", Tag: "green", Digest: old.Digest},
			},
			Objects: []diff.Change{{
				ID: "Deployment shop-production/api-green", Kind: "update",
				Text: " spec:\n   containers:\n-  - image: registry.example.com/shop/api@" + old.Digest +
					"\n+  - image: registry.example.com/shop/api@" + new.Digest + "\n",
			}},
			Keyless: []string{"environments/production/api/base/secrets.env"},
			Health:  HealthReport{Known: true, Ready: true, Digests: []string{new.Digest}, Since: at("2026-11-21T11:00:00Z")},
		}},
	}
}
