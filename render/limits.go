package render

// Bounds on what one render may read. They are far above what a release needs
// and keep a hostile repository from exhausting the controller.
const (
	// MaxFile bounds a file, in bytes.
	MaxFile = 5 << 20
	// MaxConfig bounds files that steer Kustomize (kustomizations,
	// configurations, replacements, transformers), in bytes.
	MaxConfig = 256 << 10
	// MaxFieldPath bounds the length of field paths in such files, in names:
	// Kustomize creates what a path names, and takes time and memory that grow
	// with the square of its length.
	MaxFieldPath = 100
	// MaxImageName bounds the names in images entries, in bytes: Kustomize
	// compiles them as regular expressions once for each container.
	MaxImageName = 1024
	// MaxTotal bounds all files that a folder's render reads, in bytes, each
	// counted as often as it is included.
	MaxTotal = 32 << 20
	// MaxDepth bounds how deep kustomizations include one another.
	MaxDepth = 32
	// MaxIncludes bounds how many kustomizations a folder includes, each
	// counted as often as it is: including two variants of one base at each
	// of n levels makes 2ⁿ of them.
	MaxIncludes = 512
	// MaxReferences bounds the paths that a folder's kustomizations name, each
	// counted as often as it is included.
	MaxReferences = 20_000
	// MaxObjects bounds the objects of a folder, before Kustomize runs; its
	// time grows faster than their number.
	MaxObjects = 1000
	// MaxNodes and MaxNesting bound a YAML document, its aliases expanded.
	MaxNodes   = 1_000_000
	MaxNesting = 500
	// MaxCopies bounds the copy operations of a folder's JSON patches: each
	// may double an object.
	MaxCopies = 4
)
