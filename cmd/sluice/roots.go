package main

import (
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootFolders are where operating systems keep certificate authorities. Whatever is
// there counts, and SSL_CERT_FILE and SSL_CERT_DIR do.
var rootFolders = []string{"/etc/ssl", "/etc/pki", "/etc/security", "/usr/share/ca-certificates", "/usr/local/share/certs"}

// trustBuiltInRoots has TLS believe the authorities that are built in where the system
// has none: an image from scratch holds nothing but this binary. Elsewhere reading them
// would cost every command some milliseconds.
func trustBuiltInRoots() error {
	for _, folder := range rootFolders {
		if fileExists(folder) {
			return nil
		}
	}
	roots, err := builtInRoots()
	if err == nil {
		x509.SetFallbackRoots(roots)
	}
	return err
}

// builtInRoots are Mozilla's authorities, with the constraints that it puts on some.
func builtInRoots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("reading the built-in certificate authorities: %w", err)
		}
		if root.Constraint == nil {
			pool.AddCert(certificate)
		} else {
			pool.AddCertWithConstraint(certificate, root.Constraint)
		}
	}
	return pool, nil
}
