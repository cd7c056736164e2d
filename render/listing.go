package render

//lint:file-ignore SA1019 Kustomize still reads its deprecated fields, and so must this.

import (
	"bytes"
	"reflect"

	"sigs.k8s.io/kustomize/api/types"
)

// maxListing bounds the text of a listing: the larger it is the less is saved, and Kustomize
// takes many times its size to part it.
const maxListing = 1 << 20

// listings finds the folders that only list files, as the bases of most components do.
// Whoever includes such a folder gets what it would get from these files. But for each
// folder Kustomize configures all of its transformers and merges its default
// configuration with itself, a quarter of what a small overlay costs. As it tries to
// read whatever is included as a file, before it takes it for a folder, it is given one.
//
// One text of several files has the same objects in the same order, provided that
//
//  1. each file but the last ends with a line end, and not with a line that begins with
//     "---". Kustomize splits documents at line ends before those, of which no two may be
//     the same, and puts a line end back. Parsing begins anew after each;
//  2. none holds a list: lists alone in a file are opened in another way, and the items
//     of lists come last;
//  3. no object is to be annotated with the file that it is from;
//  4. no field specifications are added: Kustomize merges them in another way with its own
//     where a folder has brought these along, and they may make others superfluous.
//
// A text with decrypted values is not made: nobody would wipe it.
func (l *loader) listings(mem *memoryFS) {
	for _, k := range l.walker.kusts {
		if k.err == nil && len(k.k.k.BuildMetadata)+len(k.k.k.Configurations)+len(k.k.k.Crds) > 0 {
			return // it may include any of them
		}
	}
	mem.listings = map[string][]string{}
	for _, k := range l.walker.kusts {
		if k.err != nil || !k.k.onlyLists() {
			continue
		}
		if files, ok := l.joinable(k.k); ok {
			mem.listings["/"+k.k.dir] = files
		}
	}
}

// onlyLists reports whether a kustomization has nothing but resources.
func (kf *kustomization) onlyLists() bool {
	k := kf.k
	if len(k.Resources) == 0 || k.Kind != "" && k.Kind != types.KustomizationKind || k.APIVersion != "" && k.APIVersion != types.KustomizationVersion {
		return false
	}
	k.TypeMeta, k.Resources = types.TypeMeta{}, nil
	return reflect.DeepEqual(k, types.Kustomization{})
}

// joinable are the files that a kustomization lists, by absolute path; ok is false where
// it includes folders, or where one text of them would not be the same.
func (l *loader) joinable(kf *kustomization) (files []string, ok bool) {
	size := 0
	for i, ref := range kf.refs {
		p, r := resolve(kf.dir, ref.value)
		f := l.files[p]
		if !r.ok() || f == nil || f.checked&roleResource == 0 || f.sealed || f.lists {
			return nil, false
		}
		if size += len(f.data); size > maxListing || i < len(kf.refs)-1 && !endsDocument(f.data) {
			return nil, false
		}
		files = append(files, "/"+p)
	}
	return files, true
}

// endsDocument reports whether what follows a file after "---" is read as on its own.
func endsDocument(data []byte) bool {
	text, ok := bytes.CutSuffix(data, []byte("\n"))
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	return ok && !bytes.HasPrefix(last, []byte("---"))
}
