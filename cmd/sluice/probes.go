package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/sluice-dev/sluice/reconciler"
)

// probe answers with 200 when all checks are fine and 503 otherwise. The body is
// "ok", or with ?verbose, and whenever one fails, a line for each check in the
// form that Kubernetes' own components use. Texts come from the engine, which has
// taken credentials and secrets out.
func probe(name string, look func() []reconciler.Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		text, fine := probeText(name, look())
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !fine {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else if !r.URL.Query().Has("verbose") {
			text = "ok\n"
		}
		_, _ = w.Write([]byte(text)) // who asked may have gone
	})
}

func probeText(name string, checks []reconciler.Check) (text string, fine bool) {
	var b strings.Builder
	fine = true
	for _, c := range checks {
		mark, rest := "[+]", c.Note
		if c.Problem != "" {
			mark, rest, fine = "[-]", c.Problem, false
		}
		line := c.Name
		if rest != "" {
			line += ": " + rest
		}
		fmt.Fprintf(&b, "%s%s\n", mark, strings.ReplaceAll(printable(line), "\n", " "))
	}
	if fine {
		fmt.Fprintf(&b, "%s check passed\n", name)
	} else {
		fmt.Fprintf(&b, "%s check failed\n", name)
	}
	return b.String(), fine
}
