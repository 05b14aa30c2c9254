package activities

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// answersFile holds the answers in their artifact.
const answersFile = "answers.jsonl"

// Answer puts a suite to a release, or a batch of its cases, through the code that users meet. Answers that are kept
// already are reused; answers of a try that was cut off are gone on from: all of them on this machine, and what was kept
// in parts on any other. Answers that could not be scored are kept for the verdict, which is then an error, and are asked for anew by the next run.
func (e Evaluation) Answer(ctx context.Context, in steps.AnswerInput) (steps.AnswerResult, error) {
	var progress report
	ctx, done := long(ctx, progress.details)
	defer done()
	labels := answerLabels(in)
	if kept, err := e.kept(ctx, in.Service, labels); err != nil || kept.Reused {
		return kept, err
	}
	suite, err := e.asked(ctx, in)
	if err != nil {
		return steps.AnswerResult{}, err
	}
	model, err := e.served(ctx, in)
	if err != nil {
		return steps.AnswerResult{}, err
	}
	defer model.close()
	ctx, release := e.whileNoCanary(ctx, in)
	defer release()
	list, err := e.ask(ctx, in, suite, model, &progress)
	if err != nil {
		return steps.AnswerResult{}, cmp.Or(stopped(ctx), err) // why it was stopped says more than what broke off
	}
	out, err := e.keepAnswers(ctx, in, []lifecycle.Digest{in.Suite}, labels, func(w io.Writer) (int, error) {
		if slices.ContainsFunc(list, unscored) {
			labels[reportLabel] += withoutScores
		}
		return len(list), evaluation.Answers{Suite: in.Suite, Release: in.Release, List: list}.Write(w)
	})
	if err == nil && !slices.ContainsFunc(list, unscored) {
		e.forgetUnfinished(in)
	}
	return out, err
}

// asked reads what is to be asked: of a batch only its cases are in memory.
func (e Evaluation) asked(ctx context.Context, in steps.AnswerInput) (evaluation.Suite, error) {
	if in.Batch == nil {
		return e.readSuite(ctx, in.Suite)
	}
	files, done, err := e.suiteFiles(ctx, in.Suite)
	if err != nil {
		return evaluation.Suite{}, err
	}
	defer done()
	suite, err := files.Read(evaluation.Span(*in.Batch))
	return suite, lifecycle.Wrap(err, "read suite %s", in.Suite.Short())
}

// kept gives answers that are there already; Reused is false where there are none.
func (e Evaluation) kept(ctx context.Context, service string, labels map[string]string) (steps.AnswerResult, error) {
	kept, err := e.Registry.LatestArtifact(ctx, service, lifecycle.ReportArtifact, labels)
	if lifecycle.Is(err, lifecycle.NotFound) {
		return steps.AnswerResult{}, nil
	}
	if err != nil {
		return steps.AnswerResult{}, err
	}
	answers, _ := strconv.Atoi(kept.Labels[casesLabel]) // written below
	return steps.AnswerResult{Answers: kept.Digest, Cases: answers, Reused: true}, nil
}

// keepAnswers keeps what write wrote, with the number of answers that it gave.
func (e Evaluation) keepAnswers(ctx context.Context, in steps.AnswerInput, parents []lifecycle.Digest, labels map[string]string, write func(io.Writer) (int, error)) (steps.AnswerResult, error) {
	as := linesOf{service: in.Service, by: in.By, file: answersFile, parents: parents, labels: labels}
	digest, n, err := e.keepLines(ctx, as, write)
	return steps.AnswerResult{Answers: digest, Cases: n}, err
}

// whileNoCanary ends the context when the release meets users as a canary: the gate's requests would be counted
// as theirs, and end its rollout as over the bound. The next try goes on when the rollout is over.
func (e Evaluation) whileNoCanary(ctx context.Context, in steps.AnswerInput) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			route, err := e.Registry.Route(ctx, in.Service)
			if err == nil && route.Canary == in.Release && route.Share > 0 {
				cancel(lifecycle.Errorf(lifecycle.Unavailable, "release %s is a canary now; its suite waits for the end of the rollout", in.Release.Short()))
			}
			if pause(ctx, time.Second) != nil {
				return
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		watching.Wait()
	}
}

// ask puts every case that has no answer yet.
func (e Evaluation) ask(ctx context.Context, in steps.AnswerInput, suite evaluation.Suite, model *served, progress *report) ([]evaluation.Answer, error) {
	unfinished, have, err := e.openUnfinished(in)
	if err != nil {
		return nil, err
	}
	if unfinished != nil {
		defer unfinished.Close()
	}
	parts := e.answerParts(linesOf{
		service: in.Service, by: in.By, parents: []lifecycle.Digest{in.Suite}, labels: answerLabels(in),
	}, in.Suite, in.Release)
	if have, err = e.answeredBefore(ctx, in, have, parts); err != nil {
		return nil, err
	}
	answered := int64(len(have))
	questions := suite.Questions()
	parts.start(questions)
	show := func() {
		progress.set(lifecycle.Progress{Step: answered, Total: int64(questions), Message: "answering"})
	}
	show()
	world, err := e.world()
	if err != nil {
		return nil, err
	}
	list, err := evaluation.AskAll(ctx, suite, model, model, evaluation.Asking{
		Parallel: model.parallel, Have: have, Speaker: model, World: world,
		Answered: func(a evaluation.Answer) {
			answered++
			show()
			if unscored(a) {
				return
			}
			parts.add(ctx, a)
			if unfinished == nil {
				return
			}
			if err := keepAnswer(unfinished, a); err != nil {
				orDefault(e.Log).WarnContext(ctx, "an answer is not kept for a next try", "case", a.Case, "error", err)
			}
		},
	})
	if err == nil && len(list) != questions {
		err = lifecycle.Errorf(lifecycle.Internal, "%d answers to %d questions", len(list), questions)
	}
	return list, lifecycle.Wrap(err, "put suite %s to release %s", in.Suite.Short(), in.Release.Short())
}

func (e Evaluation) unfinished(in steps.AnswerInput) string {
	name := string(in.Release) + "-" + string(in.Suite)
	if b := in.Batch; b != nil {
		name += fmt.Sprintf("-%d-%d", b.From, b.To)
	}
	return filepath.Join(e.Unfinished, name+".jsonl")
}

func keepAnswer(to *os.File, a evaluation.Answer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = to.Write(append(line, '\n')) // one write a line, so that two writers do not mix
	return err
}

// openUnfinished gives the answers that a try before this one got, and the file to add to. A torn last line is cut
// off; a file that cannot be read is begun anew.
func (e Evaluation) openUnfinished(in steps.AnswerInput) (*os.File, []evaluation.Answer, error) {
	if e.Unfinished == "" {
		return nil, nil, nil
	}
	if err := os.MkdirAll(e.Unfinished, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the folder for unfinished suites: %w", err)
	}
	path := e.unfinished(in)
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read unfinished answers: %w", err)
	}
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1]
	answers, err := evaluation.ReadAnswers(bytes.NewReader(raw))
	fits := err == nil && answers.Suite == in.Suite && answers.Release == in.Release
	var have []evaluation.Answer
	if fits {
		have = answers.List
	} else {
		var head bytes.Buffer
		if err := (evaluation.Answers{Suite: in.Suite, Release: in.Release}).Write(&head); err != nil {
			return nil, nil, err
		}
		raw = head.Bytes()
	}
	if err := replace(path, raw); err != nil {
		return nil, nil, fmt.Errorf("keep unfinished answers: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
	return file, have, err
}

// replace writes a file in one step: a try that is killed here leaves the old one or the new one.
func replace(path string, content []byte) error {
	beside := path + ".new"
	if err := os.WriteFile(beside, content, 0o600); err != nil {
		return err
	}
	return os.Rename(beside, path)
}

func (e Evaluation) forgetUnfinished(in steps.AnswerInput) {
	if e.Unfinished == "" {
		return
	}
	if err := os.Remove(e.unfinished(in)); err != nil {
		orDefault(e.Log).Warn("unfinished answers stay, although they are through", "error", err)
	}
}

// served is a release as its users meet it, asked from inside this process.
type served struct {
	clients  []answer.Client // one a server, asked in turn
	turn     atomic.Uint64
	search   *answer.Bundle // nil: users of this release are shown nothing
	index    *os.Root
	parallel int
}

// served makes sure that the release's servers are there, and opens what the gateway opens for it.
func (e Evaluation) served(ctx context.Context, in steps.AnswerInput) (*served, error) {
	service, err := e.Registry.Service(ctx, in.Service)
	if err != nil {
		return nil, err
	}
	_, release, err := e.Registry.TrustedRelease(ctx, in.Service, string(in.Release))
	if err != nil {
		return nil, err
	}
	loaded, err := Promotion{Registry: e.Registry, Cache: e.Cache, Engines: e.Engines}.load(ctx, in.Service, in.Release)
	if err != nil {
		return nil, err
	}
	key, err := apiKey(service, e.Secret)
	if err != nil {
		return nil, err
	}
	s := &served{}
	path := pathOr(e.Path)
	var index answer.Searcher
	if release.Index != "" && release.Parameters.TopK > 0 {
		if s.index, err = e.open(ctx, lifecycle.IndexArtifact, release.Index); err != nil {
			return nil, err
		}
		if index, err = answer.OpenIndex(s.index.FS(), embedderOn(path, loaded, key)); err != nil {
			s.close()
			return nil, lifecycle.Wrap(err, "open the index of release %s", in.Release.Short())
		}
	}
	bundle, err := answer.NewBundle(release, index)
	if err != nil {
		s.close()
		return nil, err
	}
	if index != nil {
		s.search = bundle
	}
	capacity := 0
	for _, e := range loaded {
		upstream := answer.Upstream{URL: e.URL, Model: e.Model, EmbedModel: e.Embedder, APIKey: key}
		s.clients = append(s.clients, answer.Client{Path: path, Bundle: bundle, Upstream: upstream, Seed: suiteSeed})
		capacity += e.Capacity
	}
	// Half of the servers' places: users may be on the same ones.
	s.parallel = min(max(1, capacity/2/max(1, in.AtOnce)), 16)
	return s, nil
}

func (s *served) close() {
	if s.index != nil {
		_ = s.index.Close() // it was only read
	}
}

func (s *served) client() answer.Client { return s.clients[s.turn.Add(1)%uint64(len(s.clients))] }

// Score is evaluation's.
func (s *served) Score(ctx context.Context, text string) ([]float64, []int, error) {
	return s.client().Score(ctx, text)
}

// Complete is evaluation's.
func (s *served) Complete(ctx context.Context, prompt string, max int) (string, error) {
	return s.client().Complete(ctx, prompt, max)
}

// SearchDocuments is evaluation's. A release that retrieves nothing finds nothing: that is what its users get.
func (s *served) SearchDocuments(ctx context.Context, query string, k int) ([]string, error) {
	if s.search == nil {
		return nil, nil
	}
	return s.search.SearchDocuments(ctx, query, k)
}
