package contract

import (
	"fmt"
	"io/fs"
	"strings"
)

// Remedy says with which commands keys are added to the configuration of a release,
// whose folder dir is: to its plain file, or to its encrypted one where they are
// secret. Of the files of a scaffold it names those that are there.
func Remedy(files fs.FS, dir string, keys ...string) string {
	plain, sealed := existing(files, dir, "config.env"), existing(files, dir, "secrets.env")
	echo, set := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		echo[i] = fmt.Sprintf("`echo '%s=…' >> %s`", key, plain)
		set[i] = fmt.Sprintf("`sluice secrets set %s %s`", sealed, key)
	}
	return fmt.Sprintf("add it in a clone of the environments repository, commit and push: %s, or %s where it is secret",
		strings.Join(echo, " and "), strings.Join(set, " and "))
}

// Declared is where the plain file of a release gives a key its value, FILE:LINE; ""
// when it does not.
func Declared(files fs.FS, dir, key string) string {
	file := existing(files, dir, "config.env")
	data, err := fs.ReadFile(files, file)
	if err != nil {
		return ""
	}
	n, at := 0, ""
	for line := range strings.Lines(string(data)) {
		n++
		if strings.HasPrefix(strings.TrimLeft(line, " \t"), key+"=") {
			at = fmt.Sprintf("%s:%d", file, n) // the last one counts
		}
	}
	return at
}

// existing is the file of a release with that name: in its folder, or in the base of
// its tags.
func existing(files fs.FS, dir, name string) string {
	for _, file := range []string{dir + "/" + name, dir + "/base/" + name} {
		if _, err := fs.Stat(files, file); err == nil {
			return file
		}
	}
	if _, err := fs.Stat(files, dir+"/base"); err == nil {
		return dir + "/base/" + name
	}
	return dir + "/" + name
}
