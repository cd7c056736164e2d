package cluster

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// absent reports whether the API server says that an object does not exist. That
// it does not know the path it was asked at, says nothing about the object.
func absent(err error) bool { return apierrors.IsNotFound(err) && !unserved(err) }

// unserved reports whether a request failed because its kind is not served at its
// version: the mapper does not find it, or has found it at a time when it was.
func unserved(err error) bool {
	if meta.IsNoMatchError(err) {
		return true
	}
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return true // a plain 404, not one about an object
		}
	}
	return false
}

// servedAs finds a version at which the cluster serves a kind now, the preferred
// one of its group first. It asks the server, not the mapper, which keeps what it
// has once learned. Only found == false without an error means that the cluster
// does not have the kind, and so no object of it.
func (c *Client) servedAs(ctx context.Context, kind schema.GroupKind) (gvk schema.GroupVersionKind, found bool, err error) {
	d, err := discovery.NewDiscoveryClientForConfigAndClient(c.config, c.http)
	if err != nil {
		return gvk, false, err
	}
	groups, err := d.ServerGroupsWithContext(ctx)
	if err != nil {
		return gvk, false, err
	}
	if len(groups.Groups) == 0 {
		return gvk, false, errors.New("the server lists no API group at all")
	}
	for _, group := range groups.Groups {
		if group.Name != kind.Group {
			continue
		}
		for _, version := range preferredFirst(group) {
			resources, err := d.ServerResourcesForGroupVersionWithContext(ctx, schema.GroupVersion{Group: group.Name, Version: version}.String())
			if err != nil {
				return gvk, false, err // a version that does not answer may be the one
			}
			for _, r := range resources.APIResources {
				if r.Kind == kind.Kind {
					return kind.WithVersion(version), true, nil
				}
			}
		}
	}
	return gvk, false, nil
}

func preferredFirst(group metav1.APIGroup) []string {
	versions := []string{group.PreferredVersion.Version}
	for _, v := range group.Versions {
		if v.Version != group.PreferredVersion.Version {
			versions = append(versions, v.Version)
		}
	}
	return versions
}
