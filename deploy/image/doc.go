// Package image holds the test of the container image that the Dockerfile in the root
// of the module describes; `make image` builds one.
package image
