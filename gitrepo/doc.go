// Package gitrepo reads and writes a Git repository without a work tree.
//
// Call Open first, with the URL or the path of a repository: it keeps a bare
// mirror of one branch and returns a Repository. Fetch brings the mirror up to
// date, Snapshot gives the files of a revision as an fs.FS, and Update commits
// an edit and pushes it compare-and-swap, calling the edit again when somebody
// else was faster. OpenLocal opens the repository that a folder of the user's
// machine belongs to, for reading only.
//
// The package never touches a work tree or an index, never runs a hook or a
// command but git's own upload-pack and receive-pack for a repository given as
// a path, never follows a symbolic link or a submodule, never overwrites a
// change that it has not seen, and never prints: credentials are removed from
// every error. Content of the repository and answers of the remote are treated
// as hostile: sizes are bounded and names are checked.
//
// # Cost
//
// go-git's own Fetch and Push are not used. Its push walks every object that
// the remote's refs reach; here the objects of a commit are known exactly since
// WriteCommit made them, so a push costs the size of the change. A fetch that
// finds nothing new is one listing of refs. Snapshots share their trees, and
// Hash of a folder reads no file.
package gitrepo
