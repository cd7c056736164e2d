// Command sbom writes the software bill of materials of a Go binary, from what the
// binary says of itself, as SPDX 2.3 in JSON: sbom BINARY VERSION CREATED. The same
// binary and arguments give the same document.
package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: sbom BINARY VERSION CREATED, the last as 2006-01-02T15:04:05Z07:00")
	}
	created, err := time.Parse(time.RFC3339, args[2])
	if err != nil {
		return fmt.Errorf("reading the time: %w", err)
	}
	binary, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("reading what %s is made of: %w", args[0], err)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(describe(filepath.Base(args[0]), args[1], binary, info, created))
}

// document is an SPDX document, as far as it is used here.
type document struct {
	SPDXVersion   string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	SPDXID        string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	CreationInfo  creation       `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	SPDXID           string      `json:"SPDXID"`
	Name             string      `json:"name"`
	Version          string      `json:"versionInfo"`
	DownloadLocation string      `json:"downloadLocation"`
	FilesAnalyzed    bool        `json:"filesAnalyzed"`
	LicenseConcluded string      `json:"licenseConcluded"`
	LicenseDeclared  string      `json:"licenseDeclared"`
	Copyright        string      `json:"copyrightText"`
	Purpose          string      `json:"primaryPackagePurpose"`
	Checksums        []checksum  `json:"checksums,omitempty"`
	Comment          string      `json:"comment,omitempty"`
	References       []reference `json:"externalRefs"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const noAssertion = "NOASSERTION"

// describe lists the module of a binary, those that it is linked from, and Go. Of what
// the linker was told, a binary that names no paths says nothing: its version is given.
func describe(name, version string, binary []byte, info *debug.BuildInfo, created time.Time) document {
	sum := sha256.Sum256(binary)
	digest := hex.EncodeToString(sum[:])
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: name,
		Namespace:    "https://" + info.Main.Path + "/spdx/" + digest,
		CreationInfo: creation{created.UTC().Format(time.RFC3339), []string{"Tool: " + info.Main.Path + "/deploy/sbom"}},
	}
	main := module(info.Main.Path, version, "", "APPLICATION")
	main.LicenseDeclared, main.Checksums = "Apache-2.0", []checksum{{"SHA256", digest}}
	d.add(main, d.SPDXID, "DESCRIBES")
	d.add(module("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "", "LIBRARY"), main.SPDXID, "DEPENDS_ON")
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		d.add(module(m.Path, m.Version, m.Sum, "LIBRARY"), main.SPDXID, "DEPENDS_ON")
	}
	return d
}

func (d *document) add(p pkg, of, how string) {
	d.Packages = append(d.Packages, p)
	d.Relationships = append(d.Relationships, relationship{of, how, p.SPDXID})
}

var notOfID = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

// module is a module as a package of SPDX.
func module(path, version, sum, purpose string) pkg {
	version = cmp.Or(version, "unknown")
	p := pkg{
		SPDXID: "SPDXRef-" + notOfID.ReplaceAllString(path+"-"+version, "-"), Name: path, Version: version, Purpose: purpose,
		DownloadLocation: noAssertion, LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion,
		References: []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + version}},
	}
	if sum != "" {
		p.Comment = "go.sum " + sum
	}
	return p
}
