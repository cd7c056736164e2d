package reconciler

// Key names a release in the engine.
type Key struct{ Environment, Release string }

// String is environment/release.
func (k Key) String() string { return k.Environment + "/" + k.Release }
