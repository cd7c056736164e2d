package render

import "fmt"

// switches are the annotations that the reconciler reads on a manifest, with the
// one value that means something: any other is a switch that does nothing.
var switches = map[string]string{
	"sluice.dev/adopt":    "true",
	"sluice.dev/prune":    "disabled",
	"sluice.dev/recreate": "true",
}

// lintAnnotations warns of values that mean nothing.
func (l *linter) lintAnnotations(p part, u *subject) {
	annotations := u.GetAnnotations()
	for _, name := range sortedKeys(switches) {
		if value, set := annotations[name]; set && value != switches[name] {
			l.add(SeverityWarning, p, u, fmt.Sprintf("has the annotation %s: %q, which does nothing", name, value), fmt.Sprintf("write %s: %q, or remove it", name, switches[name]))
		}
	}
}
