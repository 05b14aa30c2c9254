package corpus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// Names and bounds of a dataset's files.
const (
	CardFile  = "data-card.json"
	maxLine   = 16 << 20 // bytes of one document
	maxCard   = 1 << 20
	shardSize = 64 << 20 // bytes after which a new file begins
)

// Creator makes files by their slash-separated names, below folders that it makes where they lack. A file is
// complete when Close returned nil.
type Creator interface {
	Create(name string) (io.WriteCloser, error)
}

// Write writes a dataset: data-card.json, train/NNNN.jsonl, heldout/NNNN.jsonl. A refused corpus is Refused and
// nothing is written: what exists as a dataset may be trained on.
func Write(out Creator, checked Checked) error {
	if checked.Card.Verdict != Pass {
		return lifecycle.Errorf(lifecycle.Refused, "the data check refused this corpus: %q", checked.Card.Reasons)
	}
	for _, part := range []struct {
		split string
		docs  []Document
	}{{TrainSplit, checked.Train}, {HeldOutSplit, checked.HeldOut}} {
		if err := writeSplit(out, part.split, each(part.docs)); err != nil {
			return lifecycle.Wrap(err, "write the %s part of a dataset", part.split)
		}
	}
	return writeCard(out, checked.Card)
}

func each(docs []Document) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for _, d := range docs {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func writeSplit(out Creator, split string, docs iter.Seq2[Document, error]) error {
	var shard bytes.Buffer
	number := 0
	flush := func() error {
		name := fmt.Sprintf("%s/%04d.jsonl", split, number)
		number++
		defer shard.Reset()
		return writeFile(out, name, shard.Bytes())
	}
	encoder := json.NewEncoder(&shard)
	encoder.SetEscapeHTML(false)
	for d, err := range docs {
		if err != nil {
			return err
		}
		before := shard.Len()
		if err := encoder.Encode(d); err != nil {
			return lifecycle.Wrap(err, "encode document %q", d.ID)
		}
		if shard.Len()-before > maxLine {
			return lifecycle.Errorf(lifecycle.Invalid, "document %q takes %d bytes; a line may have %d", d.ID, shard.Len()-before, maxLine)
		}
		if shard.Len() >= shardSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if shard.Len() > 0 {
		return flush()
	}
	return nil
}

func writeFile(out Creator, name string, content []byte) (err error) {
	file, err := out.Create(name)
	if err != nil {
		return lifecycle.Wrap(err, "create %s", name)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = file.Write(content)
	return lifecycle.Wrap(err, "write %s", name)
}

// ReadCard reads the data card of a dataset. One that does not pass, or is of another version, is Refused.
func ReadCard(fsys fs.FS) (Card, error) {
	var card Card
	file, err := fsys.Open(CardFile)
	if errors.Is(err, fs.ErrNotExist) {
		return card, lifecycle.Errorf(lifecycle.NotFound, "the dataset has no data card: %w", err)
	}
	if err != nil {
		return card, lifecycle.Wrap(err, "open a data card")
	}
	defer file.Close()
	decoder := json.NewDecoder(io.LimitReader(file, maxCard))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&card); err != nil {
		return card, lifecycle.Errorf(lifecycle.Corrupt, "read a data card: %w", err)
	}
	if card.Version != CardVersion || card.Verdict != Pass {
		return card, lifecycle.Errorf(lifecycle.Refused, "data card of version %d with verdict %q; version %d and %q are asked for",
			card.Version, card.Verdict, CardVersion, Pass)
	}
	return card, nil
}

// Read gives the documents of one part of a dataset, TrainSplit or HeldOutSplit, in the order of files and
// lines. A line that is not one document with an ID of its own, in UTF-8, without unknown fields, is Corrupt and
// ends reading: half a dataset is none. A part without a file is an empty sequence.
func Read(fsys fs.FS, split string) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		names, err := fs.Glob(fsys, split+"/*.jsonl") // sorted by fs.ReadDir
		if err != nil {
			yield(Document{}, lifecycle.Wrap(err, "list the %s part of a dataset", split))
			return
		}
		seen := map[string]bool{}
		for _, name := range names {
			err := readLines(fsys, name, seen, yield)
			if errors.Is(err, errStopped) {
				return
			}
			if err != nil {
				yield(Document{}, lifecycle.Wrap(err, "read the %s part of a dataset", split))
				return
			}
		}
	}
}

func readLines(fsys fs.FS, name string, seen map[string]bool, yield func(Document, error) bool) error {
	file, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, 1<<16), maxLine+1)
	for n := 1; lines.Scan(); n++ {
		d, err := parseLine(lines.Bytes())
		if err == nil && seen[d.ID] {
			err = fmt.Errorf("ID %q was there before", d.ID)
		}
		if err != nil {
			return lifecycle.Errorf(lifecycle.Corrupt, "%s line %d: %w", name, n, err)
		}
		seen[d.ID] = true
		if !yield(d, nil) {
			return errStopped
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return lifecycle.Errorf(lifecycle.Corrupt, "%s: a line has over %d bytes", name, maxLine)
	} else if err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "%s: %w", name, err)
	}
	return nil
}

func parseLine(line []byte) (Document, error) {
	var d Document
	if !utf8.Valid(line) {
		return d, errors.New("not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return d, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return d, errors.New("more than one value")
	}
	if d.ID == "" {
		return d, errors.New("no ID")
	}
	return d, nil
}
