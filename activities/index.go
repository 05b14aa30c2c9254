package activities

import (
	"cmp"
	"context"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/retrieval"
	"github.com/refitml/refit/internal/serving"
	"github.com/refitml/refit/internal/steps"
)

// Index holds the step that builds retrieval indexes.
type Index struct {
	Shelf
	Engines map[string]serving.Engine              // the same as the promotion's
	Path    *answer.Path                           // that embeddings are asked through; default answer.New(answer.Settings{})
	Secret  func(reference string) (string, error) // reads env:NAME or file:PATH; needed where a service names an api_key
}

// Build builds an index over datasets, by words and by the embedder's vectors, and measures it on their
// relevance pairs. The embedder is served alone for it, by the service's own engine.
func (x Index) Build(ctx context.Context, in steps.BuildIndexInput) (steps.IndexResult, error) {
	var progress report
	ctx, done := long(ctx, progress.details)
	defer done()
	material, err := x.material(ctx, in.Datasets)
	if err != nil {
		return steps.IndexResult{}, err
	}
	embedder, unload, err := x.serve(ctx, in)
	if err != nil {
		return steps.IndexResult{}, err
	}
	defer unload()
	index, err := retrieval.Build(ctx, material.documents(), retrieval.Options{
		Chunking: retrieval.Chunking{Size: in.Retrieval.Chunk, Overlap: in.Retrieval.Overlap},
		Embedder: embedder, EmbedderName: string(in.Embedder),
		Progress: func(embedded, chunks int) {
			progress.set(lifecycle.Progress{Step: int64(embedded), Total: int64(chunks), Message: "embedding"})
		},
	})
	if err != nil {
		return steps.IndexResult{}, lifecycle.Wrap(cmp.Or(stopped(ctx), err), "build the index of %s", in.Service)
	}
	out := steps.IndexResult{Embedder: in.Embedder, Chunks: index.Info().Chunks, Queries: len(material.queries)}
	if out.Hybrid, err = measure(ctx, index, retrieval.Hybrid, embedder, material.queries, &progress); err != nil {
		return steps.IndexResult{}, err
	}
	if out.Lexical, err = measure(ctx, index, retrieval.Lexical, nil, material.queries, &progress); err != nil {
		return steps.IndexResult{}, err
	}
	ref, err := x.keep(ctx, lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.IndexArtifact}, Service: in.Service, MadeBy: in.By,
		Parents: append(slices.Clone(in.Datasets), in.Embedder),
		Labels: map[string]string{
			lifecycle.EmbedderLabel: string(in.Embedder), "chunks": strconv.Itoa(out.Chunks), "queries": strconv.Itoa(out.Queries),
			"recall_at_10": score(out.Hybrid.RecallAt10), "recall_at_10_lexical": score(out.Lexical.RecallAt10),
		},
	}, func(to tree) error { return index.Write(to) })
	out.Index = ref.Digest
	return out, err
}

func score(f float64) string { return strconv.FormatFloat(f, 'f', 4, 64) }

// material is what an index is made of and measured with.
type material struct {
	docs    []retrieval.Document
	queries []retrieval.Query
}

func (m material) documents() iter.Seq2[retrieval.Document, error] {
	return func(yield func(retrieval.Document, error) bool) {
		for _, d := range m.docs {
			if !yield(d, nil) {
				return
			}
		}
	}
}

// material reads datasets. A document that a relevance pair asks for is indexed without the sentence that asks.
// Of two documents with one ID the first one is taken, and only pairs of what was taken ask.
func (x Index) material(ctx context.Context, datasets []lifecycle.Digest) (material, error) {
	var m material
	taken := map[string]bool{}
	for _, digest := range datasets {
		dataset, err := x.open(ctx, lifecycle.DatasetArtifact, digest)
		if err != nil {
			return m, err
		}
		err = m.add(dataset.FS(), taken)
		_ = dataset.Close() // it was only read
		if err != nil {
			return m, lifecycle.Wrap(err, "read dataset %s", digest.Short())
		}
	}
	return m, stopped(ctx)
}

func (m *material) add(dataset fs.FS, taken map[string]bool) error {
	pairs, err := readPairs(dataset)
	if err != nil {
		return err
	}
	asked := map[string]pair{}
	for _, p := range pairs {
		asked[p.Document] = p
	}
	for doc, err := range wholeDataset(dataset) {
		if err != nil {
			return err
		}
		if taken[doc.ID] {
			continue
		}
		taken[doc.ID] = true
		if p, ok := asked[doc.ID]; ok {
			doc.Text = p.Rest
			m.queries = append(m.queries, retrieval.Query{ID: p.ID, Group: p.Group, Text: p.Text, Document: p.Document})
		}
		m.docs = append(m.docs, retrieval.Document{ID: doc.ID, Title: doc.Title, Text: doc.Text})
	}
	return nil
}

// serve brings the embedder onto a model server of its own, until unload.
func (x Index) serve(ctx context.Context, in steps.BuildIndexInput) (embedder answer.Embedder, unload func(), err error) {
	service, err := x.Registry.Service(ctx, in.Service)
	if err != nil {
		return embedder, nil, err
	}
	engine, ok := x.Engines[service.Serving.Engine]
	if !ok {
		return embedder, nil, lifecycle.Errorf(lifecycle.Invalid, "serving.engine: %q is not reachable from this worker", service.Serving.Engine)
	}
	dir := ""
	if service.Serving.Engine != "static" {
		if dir, err = x.Cache.Dir(ctx, lifecycle.ArtifactRef{Kind: lifecycle.EmbedderArtifact, Digest: in.Embedder}); err != nil {
			return embedder, nil, err
		}
	}
	key, err := apiKey(service, x.Secret)
	if err != nil {
		return embedder, nil, err
	}
	placement := serving.EmbedderAlone(service, in.Embedder, dir)
	endpoints, err := engine.Load(ctx, placement)
	if err != nil {
		return embedder, nil, err
	}
	embedder = embedderOn(pathOr(x.Path), endpoints, key)
	// Best effort: one that stays is found by the next build, and a server without work costs only memory.
	return embedder, func() { _ = engine.Unload(context.WithoutCancel(ctx), serving.ServerName(placement.Release)) }, nil
}

// embedderOn asks the servers in turn. All of them serve the embedder under one name.
func embedderOn(path *answer.Path, endpoints []lifecycle.Endpoint, key func() string) answer.Embedder {
	var turn atomic.Uint64
	servers := slices.DeleteFunc(slices.Clone(endpoints), func(e lifecycle.Endpoint) bool { return e.Embedder == "" || !e.Ready })
	out := answer.Embedder{Path: path, Upstream: func() (answer.Upstream, error) {
		if len(servers) == 0 {
			return answer.Upstream{}, lifecycle.Errorf(lifecycle.Unavailable, "no model server has the embedder")
		}
		return answer.Upstream{URL: servers[turn.Add(1)%uint64(len(servers))].URL, APIKey: key}, nil
	}}
	if len(servers) > 0 {
		out.Model = servers[0].Embedder
	}
	return out
}

func pathOr(path *answer.Path) *answer.Path {
	if path == nil {
		return answer.New(answer.Settings{})
	}
	return path
}

// apiKey gives what model servers of a service ask for; nil where they ask for nothing.
func apiKey(service lifecycle.Service, secret func(string) (string, error)) (func() string, error) {
	reference := service.Serving.APIKey
	if reference == "" {
		return nil, nil
	}
	if secret == nil {
		return nil, lifecycle.Errorf(lifecycle.Refused, "service %s names an api_key, but this worker cannot read secrets", service.Name)
	}
	key, err := secret(reference)
	return func() string { return key }, lifecycle.Wrap(err, "read serving.api_key of %s", service.Name)
}

// measure puts every query. Without one there is nothing to say, and the scores stay zero beside zero queries.
func measure(ctx context.Context, index *retrieval.Index, mode retrieval.Mode, embedder retrieval.Embedder, queries []retrieval.Query, progress *report) (steps.RetrievalScores, error) {
	if len(queries) == 0 {
		return steps.RetrievalScores{}, nil
	}
	search, err := index.Searcher(retrieval.SearchOptions{Mode: mode, Embedder: embedder})
	if err != nil {
		return steps.RetrievalScores{}, err
	}
	counted := func(yield func(retrieval.Query) bool) {
		for i, q := range queries {
			progress.set(lifecycle.Progress{Step: int64(i), Total: int64(len(queries)), Message: "measuring, " + string(mode)})
			if !yield(q) {
				return
			}
		}
	}
	_, s, err := retrieval.Evaluate(ctx, search, counted)
	if err != nil {
		return steps.RetrievalScores{}, lifecycle.Wrap(err, "measure the index (%s)", mode)
	}
	return steps.RetrievalScores{RecallAt5: s.RecallAt5, RecallAt10: s.RecallAt10, MRR: s.MRR, NDCGAt10: s.NDCGAt10}, stopped(ctx)
}
