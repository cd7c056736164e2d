// Package crds is the custom resource definition that Sluice needs in a
// cluster, for `sluice install --crds` and for tests. Release is the whole
// file. The package only holds bytes; it never applies them.
package crds

import _ "embed"

// Release is the CustomResourceDefinition of releases.sluice.dev as YAML.
//
//go:embed sluice.dev_releases.yaml
var Release []byte
