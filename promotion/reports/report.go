// Package reports carries what a controller knows of its environment's health to
// those who judge promotions out of it and do not reach its cluster: a signed
// report in a ref of the environments repository.
//
// The controller calls Writer.Write when something has changed; Reader is a
// promotion.Health over the reports of others. A report is one commit without
// parents at refs/sluice/reports/<project>/<environment>, so that no history grows:
//
//	report.json      Report
//	report.json.sig  ed25519 over the name of the ref and the file, in base64
//
// Who may push to the repository may take a report away, but cannot make one: the
// keys are given to the reader and never come from the repository. A report counts
// for a short time and is renewed before that is over, so that an old one, put back,
// soon says nothing; one that is older than another the same reader has seen says
// nothing at once.
package reports

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/promotion"
)

// RefPrefix is where the reports live.
const RefPrefix = "refs/sluice/reports/"

// Ref is where the report of a project's environment is kept. Two projects of one
// repository may have environments of the same name.
func Ref(project, environment string) string { return RefPrefix + project + "/" + environment }

const (
	dataFile      = "report.json"
	signatureFile = "report.json.sig"

	// Validity is for how long a report counts. It is renewed when half of that is
	// over.
	Validity = 20 * time.Minute
	// maxValidity is what a reader believes at most, whatever a report says.
	maxValidity = time.Hour
	// maxSkew is how far the clock of the writer may be ahead.
	maxSkew = time.Minute
	// maxSize bounds what is read, in bytes: some thousands of releases.
	maxSize = 8 << 20

	version = 2
)

// Report is what a controller says of one environment.
type Report struct {
	Version     int       `json:"version"`
	Repository  string    `json:"repository"` // the commit that its history begins with
	Project     string    `json:"project"`
	Environment string    `json:"environment"`
	Sequence    int64     `json:"sequence"` // greater than that of every report before
	At          time.Time `json:"at"`
	Expires     time.Time `json:"expires"`
	Releases    []Release `json:"releases"` // by component
}

// Release is what it says of one component.
type Release struct {
	Component string    `json:"component"`
	Revision  string    `json:"revision,omitempty"` // whose content this is about
	Ready     bool      `json:"ready"`
	Failed    bool      `json:"failed,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Digests   []string  `json:"digests,omitempty"`
	Served    []Served  `json:"served,omitempty"`
	Message   string    `json:"message,omitempty"`
}

// Served is a promotion.Served.
type Served struct {
	Digest string    `json:"digest"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// FromHealth is what is reported of a component.
func FromHealth(component string, h promotion.HealthReport) Release {
	r := Release{
		Component: component, Revision: h.Revision, Ready: h.Ready, Failed: h.Failed, Since: h.Since.UTC(), Digests: h.Digests, Message: h.Message,
	}
	for _, s := range h.Served {
		r.Served = append(r.Served, Served{s.Digest, s.Since.UTC(), s.Until.UTC()})
	}
	return r
}

func (r Release) health() promotion.HealthReport {
	h := promotion.HealthReport{Known: true, Ready: r.Ready, Failed: r.Failed, Digests: r.Digests, Message: r.Message, Revision: r.Revision}
	if r.Ready {
		h.Since = r.Since
	}
	for _, s := range r.Served {
		h.Served = append(h.Served, promotion.Served(s))
	}
	return h
}

// signed is what a signature is over: the name of the ref too, so that a report
// does not speak for another environment.
func signed(ref string, data []byte) []byte {
	return slices.Concat([]byte("sluice health report\x00"+ref+"\x00"), data)
}

func sign(key ed25519.PrivateKey, ref string, data []byte) []byte {
	return []byte(base64.StdEncoding.EncodeToString(ed25519.Sign(key, signed(ref, data))) + "\n")
}

// ErrSignature is a report that no known key has signed.
var ErrSignature = errors.New("its signature is of no key that was given")

// open verifies a report before it decodes a byte of it.
func open(keys []ed25519.PublicKey, repository, ref string, data, signature []byte) (Report, error) {
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(signature)))
	if err != nil || len(raw) != ed25519.SignatureSize {
		return Report{}, ErrSignature
	}
	message := signed(ref, data)
	if !slices.ContainsFunc(keys, func(key ed25519.PublicKey) bool { return ed25519.Verify(key, message, raw) }) {
		return Report{}, ErrSignature
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return Report{}, fmt.Errorf("it cannot be read: %w", err)
	}
	switch {
	case r.Version != version:
		return Report{}, fmt.Errorf("it is of version %d: this program reads version %d", r.Version, version)
	case Ref(r.Project, r.Environment) != ref:
		return Report{}, fmt.Errorf("it is of %s", Ref(r.Project, r.Environment))
	case r.Repository != repository:
		return Report{}, fmt.Errorf("it is of another repository, whose history begins with %.12q and not with %.12q", r.Repository, repository)
	}
	return r, nil
}

// current says why a report does not count at a time; nil when it does.
func (r Report) current(now time.Time) error {
	until := r.Expires
	if most := r.At.Add(maxValidity); most.Before(until) {
		until = most
	}
	switch {
	case r.At.After(now.Add(maxSkew)):
		return fmt.Errorf("it is of %s, which is yet to come: compare the clocks", stamp(r.At))
	case !now.Before(until):
		return fmt.Errorf("it counted until %s: its controller does not renew it", stamp(until))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
