package gitrepo

import "context"

// CheckWrite asks the remote to be written to and hangs up before anything is sent:
// nil when the credentials are good for that, else an error as Push gives it. Whether a
// rule of the forge protects the branch, only a push would tell.
func (r *Repository) CheckWrite(ctx context.Context) error {
	if err := r.writable(); err != nil {
		return err
	}
	_, err := r.remote.look(ctx)
	return err
}
