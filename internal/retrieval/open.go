package retrieval

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

const (
	maxHeader = 1 << 20
	maxCount  = math.MaxInt32 // of a term in a chunk, and of a chunk's terms
)

// Open reads an index that Write stored. Files that lack are NotFound; digests, numbers and orders that do not fit
// each other are Corrupt.
func Open(fsys fs.FS) (*Index, error) {
	raw, err := read(fsys, HeaderFile, maxHeader)
	if err != nil {
		return nil, err
	}
	var h header
	if err := lifecycle.DecodeStrictly(raw, &h); err != nil {
		return nil, corrupt(HeaderFile, "%w", err)
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, want := range h.Files {
		if files[name], err = read(fsys, name, want.Bytes); err != nil {
			return nil, err
		}
		if got := files[name]; int64(len(got)) != want.Bytes || lifecycle.DigestOf(got) != want.SHA256 {
			return nil, corrupt(name, "its size or digest is not the one in %s", HeaderFile)
		}
	}
	x := &Index{info: h.Info}
	if x.chunks, err = parseChunks(files[ChunksFile], h.Chunks); err != nil {
		return nil, err
	}
	if x.lengths, x.postings, err = parseTerms(files[TermsFile], h.Chunks); err != nil {
		return nil, err
	}
	if x.vectors, err = parseVectors(files[VectorsFile], h.Chunks, h.Dimension); err != nil {
		return nil, err
	}
	if x.count(); x.info != h.Info {
		return nil, corrupt(HeaderFile, "it counts other documents, terms or postings than there are")
	}
	return x, nil
}

func corrupt(name, format string, args ...any) error {
	return lifecycle.Wrap(lifecycle.Errorf(lifecycle.Corrupt, format, args...), "open an index: %s", name)
}

// read gives a file of at most limit bytes; one more byte is kept where there are more, so that a size never fits
// by being cut.
func read(fsys fs.FS, name string, limit int64) ([]byte, error) {
	file, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, lifecycle.Errorf(lifecycle.NotFound, "open an index: %w", err)
	}
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "open an index: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "read %s of an index: %w", name, err)
	}
	return raw, nil
}

func (h header) check() error {
	switch {
	case h.Version != formVersion:
		return corrupt(HeaderFile, "version %d; this program reads %d", h.Version, formVersion)
	case h.Chunks < 1 || h.Chunks > maxChunks || h.Dimension < 0 || h.Dimension > maxDimension:
		return corrupt(HeaderFile, "%d chunks with %d dimensions", h.Chunks, h.Dimension)
	}
	if err := h.BM25.check(); err != nil {
		return corrupt(HeaderFile, "%w", err)
	}
	if c, err := h.Chunking.withDefaults(); err != nil || c != h.Chunking {
		return corrupt(HeaderFile, "chunking %+v", h.Chunking)
	}
	want := []string{ChunksFile, TermsFile}
	if h.Dimension > 0 {
		want = append(want, VectorsFile)
	}
	for _, name := range want {
		if f, ok := h.Files[name]; !ok || f.Bytes < 0 || f.Bytes == math.MaxInt64 {
			return corrupt(HeaderFile, "%s is not listed, or not with its size", name)
		}
	}
	if len(h.Files) != len(want) {
		return corrupt(HeaderFile, "it lists %d files; an index like this has %d", len(h.Files), len(want))
	}
	return nil
}

func parseChunks(raw []byte, want int) ([]chunk, error) {
	if bytes.Count(raw, []byte("\n")) != want || raw[len(raw)-1] != '\n' {
		return nil, corrupt(ChunksFile, "it has not the %d lines that the header says", want)
	}
	chunks := make([]chunk, 0, want)
	seen := map[string]bool{}
	for line := range bytes.Lines(raw) {
		var c chunk
		if !utf8.Valid(line) {
			return nil, corrupt(ChunksFile, "line %d is not UTF-8", len(chunks)+1)
		}
		if err := lifecycle.DecodeStrictly(line, &c); err != nil {
			return nil, corrupt(ChunksFile, "line %d: %w", len(chunks)+1, err)
		}
		last := chunk{Number: -1}
		if n := len(chunks); n > 0 && chunks[n-1].Document == c.Document {
			last = chunks[n-1]
		} else if seen[c.Document] {
			return nil, corrupt(ChunksFile, "line %d: document %.80q is in two places", n+1, c.Document)
		}
		seen[c.Document] = true
		if c.Document == "" || c.Text == "" || c.Number != last.Number+1 || c.From < last.From || c.From > math.MaxInt32 {
			return nil, corrupt(ChunksFile, "line %d: a chunk of %.80q that cannot be", len(chunks)+1, c.Document)
		}
		chunks = append(chunks, c)
	}
	return chunks, nil
}

func parseTerms(raw []byte, chunks int) ([]int32, map[string][]posting, error) {
	r := numbers{rest: raw}
	if n := r.next(maxChunks); r.bad || n != chunks || n > len(r.rest) {
		return nil, nil, corrupt(TermsFile, "%d lengths for %d chunks", n, chunks)
	}
	lengths := make([]int32, chunks)
	missing := make([]int, chunks) // terms of each chunk that its length counts and no posting has yet
	for i := range lengths {
		lengths[i] = int32(r.next(maxCount))
		missing[i] = int(lengths[i])
	}
	terms := r.next(len(r.rest))
	postings := make(map[string][]posting, terms/4) // a term takes four bytes at least
	last := ""
	for range terms {
		term := r.bytes(r.next(2 * maxToken)) // lower case may be longer than what was written
		list := r.postings(chunks, missing)
		if r.bad || term <= last {
			return nil, nil, corrupt(TermsFile, "term %d ends too soon, is out of order or counts what cannot be", len(postings)+1)
		}
		postings[term], last = list, term
	}
	if r.bad || len(r.rest) > 0 {
		return nil, nil, corrupt(TermsFile, "it does not end where it should")
	}
	for i, n := range missing {
		if n != 0 {
			return nil, nil, corrupt(TermsFile, "chunk %d has another length than its terms", i)
		}
	}
	return lengths, postings, nil
}

// numbers reads uvarints; after the first one that cannot be, bad is set and everything is 0.
type numbers struct {
	rest []byte
	bad  bool
}

func (r *numbers) next(most int) int {
	n, size := binary.Uvarint(r.rest)
	if r.bad || size <= 0 || n > uint64(max(0, most)) {
		r.bad = true
		return 0
	}
	r.rest = r.rest[size:]
	return int(n)
}

func (r *numbers) bytes(n int) string {
	if r.bad || n > len(r.rest) {
		r.bad = true
		return ""
	}
	out := string(r.rest[:n])
	r.rest = r.rest[n:]
	return out
}

// postings reads the list of one term and takes its counts off what is missing.
func (r *numbers) postings(chunks int, missing []int) []posting {
	n := r.next(min(chunks, len(r.rest)/2)) // a posting takes two bytes at least
	if n == 0 {
		r.bad = true
		return nil
	}
	list := make([]posting, 0, n)
	at := 0
	for range n {
		at += r.next(chunks)
		count := r.next(maxCount)
		if r.bad || at >= chunks || count < 1 || count > missing[at] {
			r.bad = true
			return nil
		}
		missing[at] -= count
		list = append(list, posting{int32(at), int32(count)})
		at++
	}
	return list
}

func parseVectors(raw []byte, chunks, dimension int) ([]float32, error) {
	if len(raw) != 4*chunks*dimension {
		return nil, corrupt(VectorsFile, "%d bytes for %d vectors of %d numbers", len(raw), chunks, dimension)
	}
	if dimension == 0 {
		return nil, nil
	}
	vectors := make([]float32, chunks*dimension)
	for c := range chunks {
		sum := 0.0
		for i := c * dimension; i < (c+1)*dimension; i++ {
			f := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			vectors[i] = f
			sum += float64(f) * float64(f)
		}
		if !(sum == 0 || math.Abs(sum-1) < 1e-3) {
			return nil, corrupt(VectorsFile, "vector %d is not of length 1", c)
		}
	}
	return vectors, nil
}
