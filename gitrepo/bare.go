package gitrepo

// Bare reports whether a repository of OpenLocal has no work tree. It is
// true for a Repository of Open.
func (r *Repository) Bare() bool { return r.local == nil || r.local.dirs.work == "" }
