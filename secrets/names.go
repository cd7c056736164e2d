package secrets

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/cmd/sops/formats"
)

// How values are named. In a dotenv file a name is the whole of what stands before
// the sign. In a YAML, JSON or INI file names are joined with dots, and items of
// lists are counted from 0: db.password, users[0].name. A name with a dot or a
// bracket in it is quoted: data["tls.crt"]. A binary file is one value, and its
// name is empty.

// Name is one value of a file.
type Name struct {
	Name      string `json:"name"`
	Encrypted bool   `json:"encrypted"`
}

// Names lists the values of a dotenv, INI, JSON or YAML file in the order of the
// file, a name that several documents have once. No key is needed. A file of another
// format has none.
func Names(path string, data []byte) (names []Name, err error) {
	var o Opened
	defer recoverAs(path, &o, &err)
	format, ok := detect(path, data)
	if !ok {
		format = formats.FormatForPath(path)
	}
	if format == formats.Binary {
		return nil, nil
	}
	var branches sops.TreeBranches
	if ok {
		tree, err := loadTree(path, format, data)
		if err != nil {
			return nil, err
		}
		branches = tree.Branches
	} else if branches, err = loadPlain(path, format, data); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, branch := range branches {
		eachLeaf(branch, nil, func(steps []any, v any) {
			name := joinSteps(format, steps)
			if !seen[name] {
				seen[name] = true
				text, _ := v.(string)
				names = append(names, Name{name, isCiphertext(text)})
			}
		})
	}
	return names, nil
}

// eachLeaf visits the values below v, comments left out. Steps is good for the visit
// only.
func eachLeaf(v any, steps []any, visit func(steps []any, v any)) {
	switch v := v.(type) {
	case sops.TreeBranch:
		for _, item := range v {
			if _, comment := item.Key.(sops.Comment); !comment {
				eachLeaf(item.Value, append(steps, fmt.Sprint(item.Key)), visit)
			}
		}
	case []any:
		for i, at := range items(v) {
			eachLeaf(v[at], append(steps, i), visit)
		}
	default:
		visit(steps, v)
	}
}

// items are the indices of what is no comment in a list.
func items(list []any) (at []int) {
	for i, v := range list {
		s, _ := v.(string)
		if _, comment := v.(sops.Comment); !comment && !(isCiphertext(s) && strings.HasSuffix(s, ",type:comment]")) {
			at = append(at, i)
		}
	}
	return at
}

var bareName = regexp.MustCompile(`^[^.\[\]"\s]+$`)

// joinName writes steps, each a name or an index, as parseName reads them.
func joinName(steps []any) string {
	var b strings.Builder
	for _, step := range steps {
		switch step := step.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", step)
		case string:
			if !bareName.MatchString(step) {
				quoted, _ := json.Marshal(step)
				fmt.Fprintf(&b, "[%s]", quoted)
				continue
			}
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		}
	}
	return b.String()
}

func joinSteps(format formats.Format, steps []any) string {
	if format == formats.Dotenv {
		return fmt.Sprint(steps...)
	}
	return joinName(steps)
}

var nameStep = regexp.MustCompile(`^(?:\.?([^.\[\]"\s]+)|\[(\d{1,6})\]|\[("(?:[^"\\]|\\.)*")\])`)

// parseName reads a name in a file with nested values.
func parseName(name string) (steps []any, ok bool) {
	for rest := name; rest != ""; {
		m := nameStep.FindStringSubmatch(rest)
		if m == nil || len(steps) == 0 && rest[0] == '.' || len(steps) > 0 && m[1] != "" && rest[0] != '.' {
			return nil, false
		}
		switch {
		case m[1] != "":
			steps = append(steps, m[1])
		case m[2] != "":
			n, _ := strconv.Atoi(m[2])
			steps = append(steps, n)
		default:
			var quoted string
			if json.Unmarshal([]byte(m[3]), &quoted) != nil || quoted == "" {
				return nil, false
			}
			steps = append(steps, quoted)
		}
		rest = rest[len(m[0]):]
	}
	return steps, len(steps) > 0
}

var dotenvName = regexp.MustCompile(`^[A-Za-z_.-][A-Za-z0-9_.-]*$`)

// steps reads a name in this file.
func (d *Document) steps(name string) ([]any, error) {
	refuse := func(reason, remedy string) ([]any, error) {
		return nil, &NameError{File: d.path, Name: name, Reason: reason, Remedy: remedy}
	}
	switch d.format {
	case formats.Binary:
		if name != "" {
			return refuse("a binary file is one value without names", "leave the name out")
		}
		return []any{"data"}, nil
	case formats.Dotenv:
		if !dotenvName.MatchString(name) || strings.HasPrefix(name, "sops_") {
			return refuse("this is no name for a value of a dotenv file", "a name has letters, digits, _, - and dots, and does not begin with a digit or with sops_")
		}
		return []any{name}, nil
	}
	steps, ok := parseName(name)
	if !ok {
		return refuse("this is no name", `write db.password, users[0].name, or data["tls.crt"] for a name with a dot in it`)
	}
	if steps[0] == "sops" {
		return refuse("the name sops is reserved for the metadata of SOPS", "choose another name")
	}
	if d.format == formats.Ini {
		if len(steps) == 1 {
			steps = []any{"DEFAULT", steps[0]}
		}
		if _, text := steps[len(steps)-1].(string); len(steps) != 2 || !text {
			return refuse("an INI file has values in sections", `write SECTION.NAME, or SECTION["a.name"] for a name with a dot in it`)
		}
	}
	return steps, nil
}

// Get returns one value as text. What is missing is a *NameError.
func (d *Document) Get(name string) (string, error) {
	steps, err := d.steps(name)
	if err != nil {
		return "", err
	}
	if _, err := d.document(name, steps); err != nil {
		return "", err
	}
	v, ok := find(d.tree.Branches, steps)
	if !ok {
		return "", d.missing(name)
	}
	text, ok := textOf(v)
	if !ok {
		return "", d.several(name)
	}
	if d.format == formats.Dotenv {
		text = strings.ReplaceAll(text, "\n", `\n`) // as whoever reads the file sees it
	}
	return text, nil
}

func (d *Document) missing(name string) error {
	return &NameError{File: d.path, Name: name, Reason: "there is no such value", Missing: true, Remedy: "sluice secrets list " + oneLine(d.path) + " shows the names"}
}

func (d *Document) several(name string) error {
	return &NameError{File: d.path, Name: name, Reason: "it holds several values", Remedy: "name one of them: sluice secrets list " + oneLine(d.path) + " shows the names"}
}

// textOf is a value as text; ok is false of a mapping or list.
func textOf(v any) (text string, ok bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case sops.TreeBranch, []any:
		return "", false
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case time.Time:
		return v.Format(time.RFC3339Nano), true
	}
	return fmt.Sprint(v), true
}

// Set gives a value its text, and adds the value, and the mappings that it lies in,
// where they are missing. The text takes the place of a number or switch as one where
// it is one. [Document.Encrypt] refuses a value that the file's rule leaves in plain
// text.
func (d *Document) Set(name, text string) (err error) {
	var none []byte
	defer recoverBytes(d.path, &none, &err)
	steps, err := d.steps(name)
	if err != nil {
		return err
	}
	if d.format == formats.Dotenv {
		if strings.ContainsAny(text, "\n\r") {
			return &NameError{File: d.path, Name: name, Reason: "a dotenv file has no values of several lines",
				Remedy: "keep it in a file of its own (secretGenerator.files), or in a Secret in YAML"}
		}
		text = strings.ReplaceAll(text, `\n`, "\n") // as SOPS reads the line
	}
	at, err := d.document(name, steps)
	if err != nil {
		return err
	}
	var value any = text
	if old, ok := find(d.tree.Branches[at:at+1], steps); ok {
		value = like(old, text)
	}
	changed, ok := set(d.tree.Branches[at], steps, value)
	if !ok {
		return &NameError{File: d.path, Name: name, Reason: "something else is in its place",
			Remedy: "sluice secrets list " + oneLine(d.path) + " shows the names; a list grows by the index after its last"}
	}
	before := d.tree.Branches[at]
	d.tree.Branches[at] = changed.(sops.TreeBranch)
	if !d.survives(steps, value) {
		d.tree.Branches[at] = before
		return &NameError{File: d.path, Name: name, Reason: "the format of the file cannot hold this value",
			Remedy: "keep it in YAML or JSON, or in a file of its own"}
	}
	d.hidden = append(d.hidden, steps)
	return nil
}

// survives reports whether a value is read again as it was set: INI takes quotes,
// spaces and signs of comments away.
func (d *Document) survives(steps []any, value any) bool {
	out, err := d.Plaintext()
	if err != nil {
		return false
	}
	branches, err := loadPlain(d.path, d.format, out)
	if err != nil {
		return false
	}
	got, ok := find(branches, steps)
	return ok && got == value
}

// Unset removes a value, or a mapping or list with all in it.
func (d *Document) Unset(name string) error {
	steps, err := d.steps(name)
	if err != nil {
		return err
	}
	if d.format == formats.Binary {
		return &NameError{File: d.path, Name: name, Reason: "a binary file is one value", Remedy: "remove the file"}
	}
	at, err := d.document(name, steps)
	if err != nil {
		return err
	}
	rest, ok := unset(d.tree.Branches[at], steps)
	if !ok {
		return d.missing(name)
	}
	d.tree.Branches[at] = rest.(sops.TreeBranch)
	return nil
}

// document is the one document that has the value, or that has the most of what it
// lies in.
func (d *Document) document(name string, steps []any) (at int, err error) {
	if len(d.tree.Branches) < 2 {
		return 0, nil
	}
	for n := len(steps); n > 0; n-- {
		var have []int
		for i := range d.tree.Branches {
			if _, ok := find(d.tree.Branches[i:i+1], steps[:n]); ok {
				have = append(have, i)
			}
		}
		if len(have) == 1 {
			return have[0], nil
		}
		if len(have) > 1 {
			break
		}
	}
	return 0, &NameError{File: d.path, Name: name, Reason: "which document of the file is meant cannot be told",
		Remedy: "change it in an editor: sluice secrets edit " + oneLine(d.path)}
}

// find is the value at steps in the first document that has one.
func find(branches sops.TreeBranches, steps []any) (any, bool) {
next:
	for _, branch := range branches {
		var v any = branch
		for _, step := range steps {
			i, ok := place(v, step)
			if !ok {
				continue next
			}
			if list, isList := v.([]any); isList {
				v = list[i]
			} else {
				v = v.(sops.TreeBranch)[i].Value
			}
		}
		return v, true
	}
	return nil, false
}

// place is where a step leads in a mapping or list.
func place(v, step any) (int, bool) {
	switch v := v.(type) {
	case sops.TreeBranch:
		i := slices.IndexFunc(v, func(item sops.TreeItem) bool { return item.Key == step })
		return i, i >= 0
	case []any:
		n, ok := step.(int)
		at := items(v)
		if !ok || n >= len(at) {
			return 0, false
		}
		return at[n], true
	}
	return 0, false
}

// set returns v with a value at steps; ok is false where a value would take the place
// of a mapping or list, or the other way round.
func set(v any, steps []any, value any) (out any, ok bool) {
	if len(steps) == 0 {
		_, leaf := textOf(v)
		return value, leaf
	}
	_, named := steps[0].(string)
	switch v := v.(type) {
	case nil:
		if named {
			return set(sops.TreeBranch{}, steps, value)
		}
		return set([]any{}, steps, value)
	case sops.TreeBranch:
		if !named {
			return nil, false
		}
		v = slices.Clone(v)
		i, found := place(v, steps[0])
		if !found {
			i, v = len(v), append(v, sops.TreeItem{Key: steps[0]})
		}
		v[i].Value, ok = set(v[i].Value, steps[1:], value)
		return v, ok
	case []any:
		if named {
			return nil, false
		}
		v = slices.Clone(v)
		i, found := place(v, steps[0])
		if !found {
			if steps[0] != len(items(v)) {
				return nil, false
			}
			i, v = len(v), append(v, nil)
		}
		v[i], ok = set(v[i], steps[1:], value)
		return v, ok
	}
	return nil, false
}

// unset returns v without what is at steps.
func unset(v any, steps []any) (out any, ok bool) {
	i, found := place(v, steps[0])
	if !found {
		return nil, false
	}
	switch v := v.(type) {
	case sops.TreeBranch:
		v = slices.Clone(v)
		if len(steps) == 1 {
			return slices.Delete(v, i, i+1), true
		}
		v[i].Value, ok = unset(v[i].Value, steps[1:])
		return v, ok
	case []any:
		v = slices.Clone(v)
		if len(steps) == 1 {
			return slices.Delete(v, i, i+1), true
		}
		v[i], ok = unset(v[i], steps[1:])
		return v, ok
	}
	return nil, false
}

// like reads a text as what it takes the place of.
func like(old any, text string) any {
	switch old.(type) {
	case int:
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
	case float64:
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return f
		}
	case bool:
		if text == "true" || text == "false" {
			return text == "true"
		}
	}
	return text
}
