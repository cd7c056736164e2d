package promotion

import (
	"net"
	"net/url"
)

// Readable reports whether what is sent to an address can be read on the way there:
// without TLS, and not on this machine. No adapter sends a token to such a one.
func Readable(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	here := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme != "https" && (u.Scheme != "http" || !here)
}
