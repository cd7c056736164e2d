// Package diff shows in which objects, and how, one state of a release differs
// from another, without showing a secret.
//
// Call Objects with the objects before and after, then Text to print the changes.
// Nothing of a Secret is ever shown but the names of its keys and whether each
// changed, and no text that contains a secret value, wherever it stands. The
// package is pure: it reads no cluster, changes no object it is given, and its
// output depends on nothing but its input.
package diff

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// The kinds of a Change.
const (
	Create = "create"
	Update = "update"
	Delete = "delete"
	None   = "none"
)

const (
	maxLine  = 200 // characters shown of one line
	keepTail = 40  // of which at its end
	maxLines = 400 // shown of one object
)

// Change is what happens to one object.
type Change struct {
	// ID names the object to people: kind namespace/name, the kind with its group
	// where two kinds share a name. It is masked like everything else.
	ID   string
	Kind string // Create, Update, Delete or None
	// Text is a unified diff of the object's YAML with sorted keys, three lines of
	// context and long lines cut; "" for None. Created and deleted objects stand
	// there whole, each line marked.
	Text string
}

// Objects compares two sets of objects and returns one Change for each object in
// either, sorted by ID. Fields that only the server sets are left out: status,
// metadata such as resourceVersion and managedFields, and the annotation
// last-applied-configuration. Of several objects with the same identity the last
// counts.
//
// Besides m, the data of every Secret in old and new is masked wherever it
// appears in other objects.
func Objects(old, new []*unstructured.Unstructured, m Mask) []Change {
	before, after := collect(old), collect(new)
	hide := newMasker(slices.Concat(m.Values, secretValues(before), secretValues(after)))
	all := maps.Clone(before)
	maps.Copy(all, after)
	identities := slices.SortedFunc(maps.Keys(all), identity.compare)
	groups := map[identity]int{} // how many groups share kind, namespace and name
	for _, id := range identities {
		id.group = ""
		groups[id]++
	}
	changes := make([]Change, 0, len(identities))
	for _, id := range identities {
		grouped := groups[identity{kind: id.kind, namespace: id.namespace, name: id.name}] > 1
		c := Change{ID: id.display(hide, grouped)}
		c.Kind, c.Text = compare(before[id], after[id], hide)
		changes = append(changes, c)
	}
	return changes
}

// File compares two versions of a text file that holds no secret, nil for one that
// does not exist; its name is the ID.
func File(name string, old, new []byte) Change {
	c := Change{ID: printable(name), Kind: None}
	switch {
	case old == nil && new == nil || old != nil && new != nil && string(old) == string(new):
	case old == nil:
		c.Kind, c.Text = Create, whole("+", string(new))
	case new == nil:
		c.Kind, c.Text = Delete, whole("-", string(old))
	default:
		c.Kind, c.Text = Update, unified(string(old), string(new))
	}
	return c
}

// Text prints the changes to be read as a whole: a header for each object that
// changes ("+" created, "~" updated, "-" deleted) with its diff, and a last line
// that counts them.
func Text(changes []Change) string {
	var b strings.Builder
	counts := map[string]int{}
	marks := map[string]string{Create: "+", Update: "~", Delete: "-"}
	for _, c := range changes {
		counts[c.Kind]++
		if c.Kind != None {
			fmt.Fprintf(&b, "%s %s\n%s\n", marks[c.Kind], c.ID, c.Text)
		}
	}
	if counts[None] == len(changes) {
		fmt.Fprintf(&b, "no changes, %d unchanged\n", counts[None])
	} else {
		fmt.Fprintf(&b, "%d to create, %d to update, %d to delete, %d unchanged\n", counts[Create], counts[Update], counts[Delete], counts[None])
	}
	return b.String()
}

// identity is what makes two objects the same one; versions of a kind do not
// differ in it.
type identity struct{ kind, group, namespace, name string }

func (a identity) compare(b identity) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name), cmp.Compare(a.group, b.group))
}

func (a identity) display(hide *masker, grouped bool) string {
	kind := hide.apiName(a.kind)
	if grouped && a.group != "" {
		kind += "." + hide.apiName(a.group)
	}
	name := hide.text(a.name)
	if a.namespace != "" {
		name = hide.text(a.namespace) + "/" + name
	}
	return printable(kind + " " + name)
}

func collect(objects []*unstructured.Unstructured) map[identity]map[string]any {
	found := make(map[identity]map[string]any, len(objects))
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		found[identity{gvk.Kind, gvk.Group, o.GetNamespace(), o.GetName()}] = normalize(o.Object)
	}
	return found
}

// compare compares two normalized objects, of which one may be nil.
func compare(old, new map[string]any, hide *masker) (kind, text string) {
	switch {
	case old == nil:
		return Create, whole("+", show(new, nil, hide, false))
	case new == nil:
		return Delete, whole("-", show(old, nil, hide, true))
	case reflect.DeepEqual(old, new):
		return None, ""
	}
	before, after := show(old, new, hide, true), show(new, old, hide, false)
	if before == after {
		return Update, " (only masked values differ)\n"
	}
	return Update, unified(before, after)
}

// unified is the difference of two texts without the header.
func unified(before, after string) string {
	text := string(diff.Diff("", []byte(before), "", []byte(after)))
	for range 3 { // "diff", "---" and "+++": the change has a header of its own
		_, text, _ = strings.Cut(text, "\n")
	}
	return whole("", text)
}

// whole marks each line, makes it safe to print, and cuts what is too long.
func whole(mark, text string) string {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		if n++; n <= maxLines {
			b.WriteString(mark + cut(printable(strings.TrimSuffix(line, "\n"))) + "\n")
		}
	}
	if n > maxLines {
		fmt.Fprintf(&b, " … %d more lines\n", n-maxLines)
	}
	return b.String()
}

// cut shortens a long line in its middle: two versions of a line differ in their
// end as often as at their beginning.
func cut(line string) string {
	n := utf8.RuneCountInString(line)
	if n <= maxLine {
		return line
	}
	runes := []rune(line)
	return fmt.Sprintf("%s … %d more characters … %s", string(runes[:maxLine-keepTail]), n-maxLine, string(runes[n-keepTail:]))
}

// printable escapes what would steer a terminal or reorder the line (control and
// bidirectional characters).
func printable(line string) string {
	line = strings.ToValidUTF8(line, "\uFFFD")
	if !strings.ContainsFunc(line, unprintable) {
		return line
	}
	var b strings.Builder
	for _, r := range line {
		if unprintable(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }

// encode writes YAML with sorted keys. The tree holds only JSON values, of which
// every one can be encoded.
func encode(tree map[string]any) string {
	data, err := yaml.Marshal(tree)
	if err != nil {
		return fmt.Sprintf("(not shown: %T)\n", err)
	}
	return string(data)
}
