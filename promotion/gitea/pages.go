package gitea

import "net/url"

// FileURL implements promotion.Pages.
func (s *Site) FileURL(revision, path string) string {
	u, err := url.Parse(s.options.URL)
	if err != nil {
		return ""
	}
	return u.JoinPath(s.options.Owner, s.options.Name, "src", "commit", revision, path).String()
}
