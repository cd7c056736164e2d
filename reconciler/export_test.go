package reconciler

// Renders is how many releases the engine has rendered until now.
func (e *Engine) Renders() int64 { return e.renders.Load() }
