package secrets

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/cmd/sops/common"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/config"
	"go.yaml.in/yaml/v3"
	"gopkg.in/ini.v1"
)

// Bounds on what hostile files make SOPS do. Each of them is far above what
// the sops command writes.
const (
	maxMasterKeys   = 100     // key operations tried for a file
	maxMetadata     = 1000    // metadata lines of a dotenv or INI file: SOPS removes them one by one
	maxNesting      = 16      // levels flattened into the name of a metadata line: SOPS recurses
	maxINILines     = 10_000  // the INI parser compares each key with all others
	maxRule         = 1 << 10 // length of an encrypted_regex and its like: SOPS compiles it for each value
	maxCommentRules = 1e6     // comments times values under a comment rule
)

// detect tells a SOPS file by its metadata and returns its format.
func detect(path string, data []byte) (formats.Format, bool) {
	if !bytes.Contains(data, []byte("sops")) || !bytes.Contains(data, []byte("mac")) {
		return 0, false
	}
	switch named := formats.FormatForPath(path); named {
	case formats.Yaml:
		return named, yamlMetadata(data)
	case formats.Json:
		_, ok := jsonMetadata(data)
		return named, ok
	case formats.Dotenv:
		if dotenvMetadata(data) {
			return named, true
		}
	case formats.Ini:
		if iniMetadata(data) {
			return named, true
		}
	}
	return detectUnnamed(data)
}

// detectUnnamed goes by content alone: sops --input-type binary writes JSON,
// whatever the file is called.
func detectUnnamed(data []byte) (formats.Format, bool) {
	if names, ok := jsonMetadata(data); ok {
		if _, single := names["data"]; single && len(names) == 2 {
			return formats.Binary, true
		}
		return formats.Json, true
	}
	switch {
	case dotenvMetadata(data):
		return formats.Dotenv, true
	case iniMetadata(data):
		return formats.Ini, true
	case yamlMetadata(data):
		return formats.Yaml, true
	}
	return 0, false
}

// dotenvMetadata looks for sops_mac= at the start of a line.
func dotenvMetadata(data []byte) bool {
	return bytes.HasPrefix(data, []byte("sops_mac=")) || bytes.Contains(data, []byte("\nsops_mac="))
}

var (
	iniSection  = regexp.MustCompile(`(?m)^[ \t]*\[sops\][ \t]*\r?$`)
	iniMac      = regexp.MustCompile(`(?m)^[ \t]*mac[ \t]*[=:]`)
	brokenYAML  = regexp.MustCompile(`(?m)^sops:[ \t]*\r?$`)
	yamlMacLine = regexp.MustCompile(`(?m)^[ \t]+mac:[ \t]*ENC\[`)
	yamlLine    = regexp.MustCompile(`line (\d+)`)
)

// iniMetadata looks for a section [sops] with a key mac.
func iniMetadata(data []byte) bool {
	loc := iniSection.FindIndex(data)
	return loc != nil && iniMac.Match(data[loc[1]:])
}

// jsonMetadata looks for a top-level sops object with a mac, and returns the
// top-level names.
func jsonMetadata(data []byte) (map[string]json.RawMessage, bool) {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, false
	}
	var top, meta map[string]json.RawMessage
	if json.Unmarshal(data, &top) != nil || json.Unmarshal(top["sops"], &meta) != nil {
		return nil, false
	}
	_, ok := meta["mac"]
	return top, ok
}

// yamlMetadata looks for a top-level sops mapping with a mac in any document.
func yamlMetadata(data []byte) bool {
	if len(data) > MaxSize {
		return brokenYAML.Match(data) && yamlMacLine.Match(data)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			// Not YAML. If it once was a SOPS file, Open has to say so.
			return brokenYAML.Match(data) && yamlMacLine.Match(data)
		}
		if len(doc.Content) == 1 && lookup(lookup(doc.Content[0], "sops"), "mac") != nil {
			return true
		}
	}
}

// lookup returns the value of a key of a mapping, or nil.
func lookup(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func storeFor(f formats.Format) common.Store {
	return common.StoreForFormat(f, config.NewStoresConfig())
}

// loadTree reads an encrypted file, within bounds.
func loadTree(path string, format formats.Format, data []byte) (*sops.Tree, error) {
	values, err := precheck(path, format, data)
	if err != nil {
		return nil, err
	}
	tree, err := storeFor(format).LoadEncryptedFile(data)
	if err != nil {
		return nil, &FormatError{File: path, Reason: "its SOPS metadata cannot be read"}
	}
	m := tree.Metadata
	if m.MasterKeyCount() > maxMasterKeys {
		return nil, &FormatError{File: path, Reason: "it names more than 100 keys"}
	}
	for _, rule := range []string{m.EncryptedRegex, m.UnencryptedRegex, m.EncryptedCommentRegex, m.UnencryptedCommentRegex} {
		if len(rule) > maxRule {
			return nil, &FormatError{File: path, Reason: "its rule for what is encrypted is longer than 1 KiB"}
		}
	}
	if m.EncryptedCommentRegex+m.UnencryptedCommentRegex != "" && bytes.Count(data, []byte("#"))*values > maxCommentRules {
		return nil, &FormatError{File: path, Reason: "it has too many comments for a rule about comments"}
	}
	return &tree, nil
}

// loadPlain reads a plaintext file, within bounds.
func loadPlain(path string, format formats.Format, data []byte) (sops.TreeBranches, error) {
	if _, err := precheck(path, format, data); err != nil {
		return nil, err
	}
	branches, err := storeFor(format).LoadPlainFile(data)
	if err != nil {
		return nil, &FormatError{File: path, Reason: "it is not valid " + formatName(format)}
	}
	return branches, nil
}

// precheck refuses input on which the parsers of SOPS recurse without end,
// expand aliases without bound or take quadratic time, and says which line is
// wrong where SOPS's errors would quote it. It returns a bound on the number
// of values.
func precheck(path string, format formats.Format, data []byte) (values int, err error) {
	if len(data) > MaxSize {
		return 0, &FormatError{File: path, Reason: "it is larger than " + strconv.Itoa(MaxSize>>20) + " MiB",
			Remedy: "split it, or keep it out of the repository: a Secret holds 1 MiB"}
	}
	switch format {
	case formats.Yaml:
		return checkYAML(path, data)
	case formats.Json:
		// json.Valid stops at 10,000 levels; the reader of SOPS never does.
		if !json.Valid(data) {
			return 0, &FormatError{File: path, Reason: "it is not valid JSON"}
		}
		return bytes.Count(data, []byte(",")) + 1, checkJSONNames(path, data)
	case formats.Dotenv:
		return checkLines(path, data, "sops_", true)
	case formats.Ini:
		if bytes.Count(data, []byte("\n")) > maxINILines {
			return 0, &FormatError{File: path, Reason: "it has more than 10,000 lines"}
		}
		n, err := checkLines(path, data, "", false)
		if err == nil {
			err = checkININames(path, data)
		}
		return n, err
	case formats.Binary:
		// Plain binary is any bytes; an encrypted one was parsed by detect.
	}
	return 1, nil
}

// checkJSONNames refuses names used twice in valid JSON: SOPS keeps both, and readers
// differ in which one they take.
func checkJSONNames(path string, data []byte) error {
	type level struct {
		names   map[string]bool // nil in a list
		atValue bool            // a name was read, its value was not
	}
	var levels []level
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			return nil // the end: the JSON is valid
		}
		if n := len(levels); n > 0 && levels[n-1].names != nil && token != json.Delim('}') {
			top := &levels[n-1]
			if top.atValue = !top.atValue; top.atValue {
				name, _ := token.(string)
				if top.names[name] {
					line := bytes.Count(data[:dec.InputOffset()], []byte("\n")) + 1
					return &FormatError{File: path, Line: line, Reason: "a name is used twice", Remedy: remedyTwice}
				}
				top.names[name] = true
				continue
			}
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{names: map[string]bool{}})
		case json.Delim('['):
			levels = append(levels, level{})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
	}
}

// checkININames refuses names used twice in a section: SOPS keeps the last. Sections of
// one name are several, as in files of WireGuard. What cannot be parsed SOPS refuses.
func checkININames(path string, data []byte) error {
	file, err := ini.LoadSources(ini.LoadOptions{
		AllowNonUniqueSections: true, AllowShadows: true, AllowDuplicateShadowValues: true,
	}, data)
	if err != nil {
		return nil
	}
	for _, section := range file.Sections() {
		for _, key := range section.Keys() {
			if len(key.ValueWithShadows()) > 1 {
				return &FormatError{File: path, Reason: "a name is used twice in a section", Remedy: remedyTwice}
			}
		}
	}
	return nil
}

const remedyTwice = "keep one of the two; where the file is encrypted restore it from Git"

// checkLines checks a dotenv or INI file line by line. In dotenv names used twice are
// refused: programs differ in which one they take.
func checkLines(path string, data []byte, metaPrefix string, needsEquals bool) (int, error) {
	meta, n := 0, 0
	seen := map[string]bool{}
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSuffix(line, []byte("\n"))
		name, _, found := bytes.Cut(line, []byte("="))
		if needsEquals && !found && len(line) > 0 && line[0] != '#' {
			return 0, &FormatError{File: path, Line: n, Reason: "the line is neither NAME=value nor a comment"}
		}
		if metaPrefix != "" && bytes.HasPrefix(name, []byte(metaPrefix)) {
			meta++
		}
		if bytes.Count(name, []byte("__map_"))+bytes.Count(name, []byte("__list_")) > maxNesting || meta > maxMetadata {
			return 0, &FormatError{File: path, Line: n, Reason: "its SOPS metadata is too deep or too large"}
		}
		if !needsEquals || !found || line[0] == '#' {
			continue
		}
		if seen[string(name)] {
			return 0, &FormatError{File: path, Line: n, Reason: "a name is used twice", Remedy: remedyTwice}
		}
		seen[string(name)] = true
	}
	return n, nil
}

// checkYAML refuses what SOPS never writes: anchors and aliases, which it would
// expand without bound, names that are not strings, and names used twice,
// which it would only see in the first document.
func checkYAML(path string, data []byte) (int, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	values := 0
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return 0, &FormatError{File: path, Line: lineIn(err), Reason: "it is not valid YAML"}
		}
		if err := checkNode(path, &doc, &values); err != nil {
			return 0, err
		}
	}
}

func checkNode(path string, n *yaml.Node, values *int) error {
	*values++
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return &FormatError{File: path, Line: n.Line, Reason: "YAML anchors and aliases are not allowed in a SOPS file",
			Remedy: "write out what they stand for"}
	}
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
				return &FormatError{File: path, Line: key.Line, Reason: "a name is not a string: quote it"}
			}
			if seen[key.Value] {
				return &FormatError{File: path, Line: key.Line, Reason: "a name is used twice", Remedy: remedyTwice}
			}
			seen[key.Value] = true
		}
	}
	for _, c := range n.Content {
		if err := checkNode(path, c, values); err != nil {
			return err
		}
	}
	return nil
}

// lineIn finds the line number in an error of the YAML parser, whose text may
// quote the file; 0 when there is none.
func lineIn(err error) int {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// lineOf is the line on which text first stands.
func lineOf(data, text []byte) int {
	i := bytes.Index(data, text)
	if i < 0 {
		return 0
	}
	return bytes.Count(data[:i], []byte("\n")) + 1
}

// emit writes the plaintext file. JSON is written here, byte for byte as SOPS
// does: its own writer takes quadratic time.
func emit(path string, format formats.Format, branches sops.TreeBranches) ([]byte, error) {
	if format == formats.Json && len(branches) == 1 {
		var buf, out bytes.Buffer
		if err := writeJSON(&buf, branches[0]); err != nil {
			return nil, &FormatError{File: path, Reason: "its values cannot be written as JSON"}
		}
		if err := json.Indent(&out, buf.Bytes(), "", "\t"); err != nil {
			return nil, &FormatError{File: path, Reason: "its values cannot be written as JSON"}
		}
		out.WriteByte('\n')
		return out.Bytes(), nil
	}
	out, err := storeFor(format).EmitPlainFile(branches)
	if err != nil {
		return nil, &FormatError{File: path, Reason: "its values cannot be written as " + formatName(format)}
	}
	return out, nil
}

func writeJSON(w *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case sops.TreeBranch:
		w.WriteByte('{')
		first := true
		for _, item := range v {
			if _, ok := item.Key.(sops.Comment); ok {
				continue
			}
			if !first {
				w.WriteByte(',')
			}
			first = false
			key, _ := item.Key.(string)
			if err := writeJSON(w, key); err != nil {
				return err
			}
			w.WriteByte(':')
			if err := writeJSON(w, item.Value); err != nil {
				return err
			}
		}
		w.WriteByte('}')
	case []any:
		w.WriteByte('[')
		first := true
		for _, item := range v {
			if _, ok := item.(sops.Comment); ok {
				continue
			}
			if !first {
				w.WriteByte(',')
			}
			first = false
			if err := writeJSON(w, item); err != nil {
				return err
			}
		}
		w.WriteByte(']')
	default:
		out, err := json.Marshal(v)
		if err != nil {
			return err
		}
		w.Write(out)
	}
	return nil
}

func formatName(f formats.Format) string {
	switch f {
	case formats.Yaml:
		return "YAML"
	case formats.Json:
		return "JSON"
	case formats.Dotenv:
		return "dotenv"
	case formats.Ini:
		return "INI"
	default:
		return "a binary file"
	}
}
