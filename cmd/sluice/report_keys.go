package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-dev/sluice/promotion"
	"github.com/sluice-dev/sluice/promotion/reports"
)

func (a *app) addReportFlags(root *cobra.Command) {
	root.PersistentFlags().StringArrayVar(&a.reportKeyFiles, "report-key", nil,
		"public key of an environment's health reports, `ENVIRONMENT=PATH` (repeatable)")
}

// reportKeys reads the files of --report-key: health of the environments that are
// named there comes from signed reports, not from the cluster at hand.
func (a *app) reportKeys() (map[string][]ed25519.PublicKey, error) {
	keys := map[string][]ed25519.PublicKey{}
	for _, arg := range a.reportKeyFiles {
		environment, file, bound := strings.Cut(arg, "=")
		if !bound || environment == "" || file == "" {
			return nil, withHint(usagef("--report-key %s is not ENVIRONMENT=PATH", arg), "bind the key to the environment that it speaks for: --report-key staging=staging.pub")
		}
		data, err := os.ReadFile(a.abs(file))
		if err != nil {
			return nil, fmt.Errorf("--report-key %s: %w", arg, err)
		}
		more, err := reports.ParsePublicKeys(data)
		if err != nil {
			return nil, fmt.Errorf("--report-key %s: %w", arg, err)
		}
		keys[environment] = append(keys[environment], more...)
	}
	return keys, nil
}

// reportSigner reads the file of --report-sign-key; nil when there is none.
func (a *app) reportSigner(file string) (ed25519.PrivateKey, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(a.abs(file))
	if err != nil {
		return nil, fmt.Errorf("--report-sign-key: %w", err)
	}
	key, err := reports.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("--report-sign-key %s: %w", file, err)
	}
	return key, nil
}

// reportedHealth is health out of signed reports for the environments that have
// keys, and out of the cluster for the others.
type reportedHealth struct {
	signed  *reports.Reader
	cluster promotion.Health
}

// Release reports on a component in an environment.
func (h reportedHealth) Release(ctx context.Context, environment, component string) (promotion.HealthReport, error) {
	if h.signed.Reports(environment) {
		return h.signed.Release(ctx, environment, component)
	}
	return h.cluster.Release(ctx, environment, component)
}
