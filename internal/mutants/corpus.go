package mutants

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// encode writes an input as go test reads seeds from files.
func encode(input []any) []byte {
	b := bytes.NewBufferString("go test fuzz v1\n")
	for _, v := range input {
		switch v := v.(type) {
		case string:
			fmt.Fprintf(b, "string(%q)\n", v)
		case []byte:
			fmt.Fprintf(b, "[]byte(%q)\n", v)
		case byte:
			fmt.Fprintf(b, "byte(%q)\n", v)
		case float32:
			fmt.Fprintf(b, "math.Float32frombits(%#x)\n", math.Float32bits(v))
		case float64:
			fmt.Fprintf(b, "math.Float64frombits(%#x)\n", math.Float64bits(v))
		default: // the other numbers, and bool
			fmt.Fprintf(b, "%T(%v)\n", v, v)
		}
	}
	return b.Bytes()
}

// keep writes an input where go test runs it again, and says how. Where the folder
// cannot be written to, what is printed has to do.
func keep(target string, input []byte) string {
	name := fmt.Sprintf("%x", sha256.Sum256(input))[:16]
	file := filepath.Join(corpusDir(target), name)
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, input, 0o644)
	}
	if err != nil {
		return fmt.Sprintf("A mutant fails, and could not be kept as a seed: %v", err)
	}
	return fmt.Sprintf("A mutant fails, and is kept: go test -run '%s/%s' runs it again; commit %s with the mend.", target, name, file)
}
