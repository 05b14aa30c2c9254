package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"

	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Datasets holds the steps that make datasets of corpora and hold them against suites.
type Datasets struct {
	Shelf
	Roots       []string // folders that sources of kind folder may lie in; none: there are no such sources
	GoRoot      string   // for sources of kind go-std; default what `go env GOROOT` says
	ModuleCache string   // for sources of kind go-modules; default what `go env GOMODCACHE` says
}

// corpusLabel is the label of a dataset that names the corpus it was made of.
const corpusLabel = "corpus"

// aboutFile is what a dataset says of itself beside its data card. The corpus' name is part of it, so that
// two corpora with the same text are two datasets.
const aboutFile = "dataset.json"

type about struct {
	Corpus string `json:"corpus"`
	Pairs  int    `json:"pairs"` // relevance pairs in pairsFile

	CleanedOf lifecycle.Digest `json:"cleaned_of,omitempty"` // the dataset that this is without its contaminated documents
}

// CheckCorpus reads a corpus, puts it through the data check and stores it as a dataset with relevance pairs
// of its held-out documents. A corpus that fails the check is Refused; its data card is kept as a report, which
// the error's field "report" names.
func (d Datasets) CheckCorpus(ctx context.Context, in steps.CheckCorpusInput) (steps.BuildDatasetResult, error) {
	ctx, done := long(ctx, nil)
	defer done()
	var none steps.BuildDatasetResult
	documents, err := d.read(ctx, in.Policy.Sources)
	if err != nil {
		return none, lifecycle.Wrap(err, "read corpus %s", in.Corpus)
	}
	checked, err := corpus.Check(until(ctx, documents), corpus.Policy{
		MinDocuments: in.Policy.MinDocuments, MaxDocuments: in.Policy.MaxDocuments,
		MaxDropped: in.Policy.MaxDropped, HeldOut: in.Policy.HeldOut,
	})
	if err != nil {
		return none, lifecycle.Wrap(err, "check corpus %s", in.Corpus)
	}
	if checked.Card.Verdict != corpus.Pass {
		return none, d.refuse(ctx, in, checked.Card)
	}
	pairs := pairsOf(checked.HeldOut)
	card := checked.Card
	ref, err := d.keep(ctx, lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact}, Service: in.Service, MadeBy: in.By,
		Labels: map[string]string{
			corpusLabel: in.Corpus, "documents": strconv.Itoa(card.Train + card.HeldOut),
			"held_out": strconv.Itoa(card.HeldOut), "pairs": strconv.Itoa(len(pairs)),
		},
	}, func(to tree) error { return writeDataset(to, in.Corpus, checked, pairs) })
	return steps.BuildDatasetResult{
		Dataset: ref.Digest, Documents: card.Train + card.HeldOut, HeldOut: card.HeldOut,
		Dropped: card.DroppedDocuments(), Bytes: card.Bytes,
	}, err
}

func writeDataset(to tree, name string, checked corpus.Checked, pairs []pair) error {
	if err := corpus.Write(to, checked); err != nil {
		return err
	}
	if err := writePairs(to, pairs); err != nil {
		return err
	}
	raw, err := json.Marshal(about{Corpus: name, Pairs: len(pairs)})
	if err != nil {
		return fmt.Errorf("encode %s: %w", aboutFile, err)
	}
	return to.write(aboutFile, append(raw, '\n'))
}

// refuse keeps the data card of a refused corpus, so that who reads the error can read why.
func (d Datasets) refuse(ctx context.Context, in steps.CheckCorpusInput, card corpus.Card) error {
	raw, err := json.MarshalIndent(card, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the data card: %w", err)
	}
	ref, err := d.keep(ctx, lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact}, Service: in.Service, MadeBy: in.By,
		Labels: map[string]string{"report": "data-check", corpusLabel: in.Corpus, "verdict": card.Verdict},
	}, func(to tree) error { return to.write(corpus.CardFile, append(raw, '\n')) })
	if err != nil {
		return err
	}
	return &lifecycle.Error{
		Kind:    lifecycle.Refused,
		Message: fmt.Sprintf("the data check refused corpus %s: %v; its data card is report %s", in.Corpus, card.Reasons, ref.Digest.Short()),
		Fields:  map[string]string{corpusLabel: in.Corpus, "report": string(ref.Digest)},
	}
}

// until ends a sequence with the context's error: a data check knows no context.
func until(ctx context.Context, docs iter.Seq2[corpus.Document, error]) iter.Seq2[corpus.Document, error] {
	return func(yield func(corpus.Document, error) bool) {
		for doc, err := range docs {
			if stopped := stopped(ctx); stopped != nil {
				yield(corpus.Document{}, stopped)
				return
			}
			if !yield(doc, err) {
				return
			}
		}
	}
}
