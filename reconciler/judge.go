package reconciler

import (
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/reconciler/health"
)

// judgeBy has the objects of the release judged by the expressions of its
// component. One that does not compile is a fault of the release's files: nobody
// could tell when the release is ready.
func (p *pass) judgeBy(component envrepo.Component) error {
	expressions, err := health.Compile(component.Health)
	if err != nil {
		return &RenderError{Release: p.in.Release.Name, Err: err}
	}
	p.in.Health = expressions
	p.release.judgedBy(expressions)
	return nil
}

// judgedBy keeps by what the release is judged: a change of status of such an
// object is a reason for a pass.
func (r *release) judgedBy(expressions *health.Expressions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health = expressions
}
