package retrieval

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// Names of an index's files, and the version of their form.
const (
	HeaderFile  = "index.json"
	ChunksFile  = "chunks.jsonl"
	TermsFile   = "terms.bin"
	VectorsFile = "vectors.bin"

	formVersion = 1
)

// header is index.json.
type header struct {
	Version int `json:"version"`
	Info
	Files map[string]fileInfo `json:"files"`
}

type fileInfo struct {
	Bytes  int64            `json:"bytes"`
	SHA256 lifecycle.Digest `json:"sha256"`
}

// Creator makes files by their names. A file is complete when Close returned nil.
type Creator interface {
	Create(name string) (io.WriteCloser, error)
}

// Write stores the index; the header comes last.
func (x *Index) Write(out Creator) error {
	h := header{Version: formVersion, Info: x.info, Files: map[string]fileInfo{}}
	chunks, err := x.encodeChunks()
	if err != nil {
		return err
	}
	files := map[string][]byte{ChunksFile: chunks, TermsFile: x.encodeTerms()}
	if x.info.Dimension > 0 {
		files[VectorsFile] = x.encodeVectors()
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h.Files[name] = fileInfo{int64(len(files[name])), lifecycle.DigestOf(files[name])}
		if err := writeFile(out, name, files[name]); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return lifecycle.Wrap(err, "encode an index's header")
	}
	return writeFile(out, HeaderFile, append(raw, '\n'))
}

func writeFile(out Creator, name string, content []byte) (err error) {
	file, err := out.Create(name)
	if err != nil {
		return lifecycle.Wrap(err, "create %s of an index", name)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = file.Write(content)
	return lifecycle.Wrap(err, "write %s of an index", name)
}

func (x *Index) encodeChunks() ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for _, c := range x.chunks {
		if err := encoder.Encode(c); err != nil {
			return nil, lifecycle.Wrap(err, "encode chunk %s", c.id())
		}
	}
	return out.Bytes(), nil
}

// encodeTerms: number of chunks, their lengths, number of terms; for each term, in byte order, its length and
// bytes, number of postings, and for each posting how many chunks were skipped since the one before, and the count.
func (x *Index) encodeTerms() []byte {
	var out []byte
	number := func(n int) { out = binary.AppendUvarint(out, uint64(n)) }
	number(len(x.lengths))
	for _, n := range x.lengths {
		number(int(n))
	}
	number(len(x.postings))
	for _, term := range slices.Sorted(maps.Keys(x.postings)) {
		number(len(term))
		out = append(out, term...)
		list := x.postings[term]
		number(len(list))
		next := int32(0)
		for _, p := range list {
			number(int(p.chunk - next))
			number(int(p.count))
			next = p.chunk + 1
		}
	}
	return out
}

func (x *Index) encodeVectors() []byte {
	out := make([]byte, 0, 4*len(x.vectors))
	for _, f := range x.vectors {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(f))
	}
	return out
}
