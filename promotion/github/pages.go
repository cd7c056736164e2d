package github

import "net/url"

// FileURL implements promotion.Pages.
func (s *Site) FileURL(revision, path string) string {
	u := url.URL{Scheme: s.client.BaseURL.Scheme, Host: s.host, Path: "/" + s.owner + "/" + s.name + "/blob/" + revision + "/" + path}
	return u.String()
}
