package corpus

import (
	"encoding/json"
	"io/fs"
	"iter"

	"github.com/refitml/refit/internal/lifecycle"
)

// Contaminated is the reason of documents that hold a case of a suite. They are not dropped by Check, which knows no
// suites, but before something is trained on a dataset.
const Contaminated Reason = "contaminated"

// Rewrite writes a dataset anew without some documents of its training part, and gives its card: the reason counts
// them, and what is said of the others is counted anew, but for Cleaned, which stays what the first check found. No
// training document left is Refused, and an ID that is not there is NotFound. It holds one document at a time, and IDs.
func Rewrite(out Creator, dataset fs.FS, without map[string]bool, why Reason) (Card, error) {
	card, err := ReadCard(dataset)
	if err != nil {
		return card, err
	}
	r := rewriting{sum: newDigester(), sources: map[string]bool{}, without: without}
	card.Train, card.Bytes = 0, 0
	if err := writeSplit(out, TrainSplit, r.kept(Read(dataset, TrainSplit), TrainSplit)); err != nil {
		return card, lifecycle.Wrap(err, "write the %s part of a dataset", TrainSplit)
	}
	card.Train = r.documents
	switch {
	case len(r.left) != len(without):
		return card, lifecycle.Errorf(lifecycle.NotFound, "%d documents are to be left out, and %d of them are there", len(without), len(r.left))
	case card.Train == 0:
		return card, lifecycle.Errorf(lifecycle.Refused, "no document is left to train on: all %d are %s", len(r.left), why)
	}
	r.without = nil
	if err := writeSplit(out, HeldOutSplit, r.kept(Read(dataset, HeldOutSplit), HeldOutSplit)); err != nil {
		return card, lifecycle.Wrap(err, "write the %s part of a dataset", HeldOutSplit)
	}
	card.HeldOut = r.documents - card.Train
	card.Bytes, card.Sources, card.Digest = r.bytes, len(r.sources), r.sum.digest()
	if card.Dropped == nil {
		card.Dropped = map[Reason]Drop{}
	}
	drop := card.Dropped[why]
	drop.Documents += len(r.left)
	drop.Examples = append(drop.Examples, r.left[:min(len(r.left), maxExamples-min(maxExamples, len(drop.Examples)))]...)
	card.Dropped[why] = drop
	return card, writeCard(out, card)
}

type rewriting struct {
	sum       digester
	sources   map[string]bool
	without   map[string]bool
	left      []string // out
	documents int
	bytes     int64
}

func (r *rewriting) kept(docs iter.Seq2[Document, error], split string) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for d, err := range docs {
			if err == nil && r.without[d.ID] {
				r.left = append(r.left, d.ID)
				continue
			}
			if err == nil {
				r.sum.add(split, d)
				r.sources[d.Source] = true
				r.documents++
				r.bytes += int64(len(d.Text))
			}
			if !yield(d, err) {
				return
			}
		}
	}
}

func writeCard(out Creator, card Card) error {
	raw, err := json.MarshalIndent(card, "", "  ")
	if err != nil {
		return lifecycle.Wrap(err, "encode a data card")
	}
	return lifecycle.Wrap(writeFile(out, CardFile, append(raw, '\n')), "write a data card")
}
