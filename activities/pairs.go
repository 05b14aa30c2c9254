package activities

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/lifecycle"
)

// pairsFile holds a dataset's relevance pairs, one a line. It stands in every dataset of a corpus, empty where
// no pair could be made.
const pairsFile = "pairs.jsonl"

// pair asks for one held-out document by its own first sentence. An index that is to be measured with it
// holds the document as Rest, without that sentence.
type pair struct {
	ID       string `json:"id"`
	Group    string `json:"group"`
	Text     string `json:"text"`
	Document string `json:"document"`
	Rest     string `json:"rest"`
}

// pairsOf asks for held-out documents only: the others stay whole in the index.
func pairsOf(heldOut []corpus.Document) []pair {
	var pairs []pair
	for _, d := range heldOut {
		if q, rest, ok := corpus.Pair(d); ok {
			pairs = append(pairs, pair{ID: q.ID, Group: q.Group, Text: q.Text, Document: q.Document, Rest: rest.Text})
		}
	}
	return pairs
}

func writePairs(to tree, pairs []pair) error {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for _, p := range pairs {
		if err := encoder.Encode(p); err != nil {
			return fmt.Errorf("encode relevance pair %s: %w", p.ID, err)
		}
	}
	return to.write(pairsFile, out.Bytes())
}

func readPairs(dataset fs.FS) ([]pair, error) {
	file, err := dataset.Open(pairsFile)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "read a dataset's relevance pairs: %w", err)
	}
	defer file.Close()
	var pairs []pair
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 64<<10), 32<<20)
	for n := 1; lines.Scan(); n++ {
		var p pair
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&p)
		if err == nil && (p.ID == "" || p.Text == "" || p.Document == "" || p.Rest == "") {
			err = errors.New("incomplete")
		}
		if err != nil {
			return nil, lifecycle.Errorf(lifecycle.Corrupt, "%s line %d: %w", pairsFile, n, err)
		}
		pairs = append(pairs, p)
	}
	if err := lines.Err(); err != nil {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "read %s: %w", pairsFile, err)
	}
	return pairs, nil
}

// wholeDataset gives the documents of both parts of a dataset, the training part first.
func wholeDataset(dataset fs.FS) iter.Seq2[corpus.Document, error] {
	return func(yield func(corpus.Document, error) bool) {
		for _, split := range []string{corpus.TrainSplit, corpus.HeldOutSplit} {
			for doc, err := range corpus.Read(dataset, split) {
				if !yield(doc, err) || err != nil {
					return
				}
			}
		}
	}
}
