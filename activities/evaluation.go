package activities

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"strconv"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
	"github.com/refitml/refit/internal/steps"
)

// Evaluation holds the steps of the gate.
type Evaluation struct {
	Shelf
	Engines    map[string]serving.Engine              // the same as the promotion's
	Unfinished string                                 // folder that keeps the answers of suites that are not through; empty: they are asked anew
	Path       *answer.Path                           // that users' requests take; default answer.New(answer.Settings{})
	Secret     func(reference string) (string, error) // reads env:NAME or file:PATH; needed where a service or a judge names an api_key
	Roots      []string                               // folders that suites of people may lie in
	Judges     map[string]Judge                       // models that suites may name as judges
	Commands   map[string]Command                     // programs that suites may name as scorers
	PartAfter  time.Duration                          // between two parts of a batch that are kept for other workers; default 30 s
	Log        *slog.Logger                           // default slog.Default()
}

// suiteSeed draws the cases of every suite: the same documents give the same suite.
const suiteSeed = 1

// Plan resolves candidate, baseline and suite, and gives the verdict where the same question was answered
// before. A verdict of error is no answer.
func (e Evaluation) Plan(ctx context.Context, in steps.PlanEvaluationInput) (steps.EvaluationPlan, error) {
	defer beat(ctx, nil)()
	var plan steps.EvaluationPlan
	service, err := e.Registry.Service(ctx, in.Service)
	if err != nil {
		return plan, err
	}
	if plan.Candidate, err = e.candidate(ctx, in); err != nil {
		return plan, err
	}
	if plan.Baseline, err = e.baseline(ctx, in); err != nil {
		return plan, err
	}
	suite, ref, err := e.suite(ctx, service, in.By)
	if err != nil {
		return plan, err
	}
	plan.Suite, plan.Compares, plan.Labels = ref, suite.Compares(), suite.Labelled()
	plan.Verdict, err = e.judged(ctx, in.Service, plan)
	return plan, err
}

func (e Evaluation) candidate(ctx context.Context, in steps.PlanEvaluationInput) (lifecycle.Digest, error) {
	if in.Release != "" {
		id, _, err := e.Registry.Release(ctx, in.Service, in.Release)
		return id, err
	}
	newest, err := e.Registry.Releases(ctx, in.Service, 1)
	if err != nil {
		return "", err
	}
	if len(newest) == 0 {
		return "", lifecycle.Errorf(lifecycle.NotFound, "service %s has no release yet; `refit train` makes one", in.Service)
	}
	return newest[0].ID, nil
}

func (e Evaluation) baseline(ctx context.Context, in steps.PlanEvaluationInput) (lifecycle.Digest, error) {
	if in.Baseline != "" {
		id, _, err := e.Registry.Release(ctx, in.Service, in.Baseline)
		return id, err
	}
	route, err := e.Registry.Route(ctx, in.Service)
	return route.Stable, err
}

// judged gives the stored verdict on a question; nil where there is none.
func (e Evaluation) judged(ctx context.Context, service string, plan steps.EvaluationPlan) (*lifecycle.Verdict, error) {
	verdict, err := e.Registry.Evaluation(ctx, service, plan.Candidate, plan.Baseline, plan.Suite)
	if lifecycle.Is(err, lifecycle.NotFound) || err == nil && verdict.Outcome == lifecycle.ErrorOutcome {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &verdict, nil
}

// suite makes what the service's gates ask: the suite that its declaration points to, and what it declares to be built of
// held-out documents, with what the declaration asks of its judges. The same ones give the same artifact. It gives what gates
// may ask of it, too.
func (e Evaluation) suite(ctx context.Context, service lifecycle.Service, by lifecycle.Actor) (gates evaluation.Suite, digest lifecycle.Digest, err error) {
	if len(service.Evaluation.Capabilities) == 0 && !service.Evaluation.Suite.Given() {
		return gates, "", lifecycle.Errorf(lifecycle.Invalid,
			"evaluation: neither suite nor capabilities; a release passes no gate that asks nothing, so declare what the model must be able to do")
	}
	var suite evaluation.Suite
	var parents []lifecycle.Digest
	if len(service.Evaluation.Capabilities) > 0 {
		if suite, parents, err = e.built(ctx, service); err != nil {
			return gates, "", err
		}
	}
	if service.Evaluation.Suite.Given() {
		written, err := e.written(ctx, service.Evaluation.Suite)
		if err != nil {
			return gates, "", lifecycle.Wrap(err, "read the suite of %s", service.Name)
		}
		suite = written.With(suite)
		if asked := service.Evaluation.Agreement; asked.Given() && suite.Asks() {
			suite.Agreement = &asked
		}
	}
	if gates, err = suite.Only(evaluation.GateSplit); err != nil {
		return gates, "", lifecycle.Wrap(err, "suite of %s", service.Name)
	}
	ref, err := e.keep(ctx, lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.SuiteArtifact}, Service: service.Name, MadeBy: by, Parents: unique(parents),
		Labels: map[string]string{"cases": strconv.Itoa(len(suite.Cases)), "capabilities": strconv.Itoa(len(suite.Capabilities))},
	}, func(to tree) error { return suite.Write(to) })
	return gates, ref.Digest, err
}

// built makes cases of the held-out documents and relevance pairs of the service's newest datasets.
func (e Evaluation) built(ctx context.Context, service lifecycle.Service) (evaluation.Suite, []lifecycle.Digest, error) {
	var plans []evaluation.Plan
	var parents []lifecycle.Digest
	for _, capability := range service.Evaluation.Capabilities {
		dataset, err := e.Registry.LatestArtifact(ctx, service.Name, lifecycle.DatasetArtifact, map[string]string{corpusLabel: capability.Corpus})
		if lifecycle.Is(err, lifecycle.NotFound) {
			err = lifecycle.Errorf(lifecycle.NotFound, "capability %s asks corpus %s, of which there is no dataset yet; train or index with it first",
				capability.Name, capability.Corpus)
		}
		if err != nil {
			return evaluation.Suite{}, nil, err
		}
		root, err := e.open(ctx, lifecycle.DatasetArtifact, dataset.Digest)
		if err != nil {
			return evaluation.Suite{}, nil, err
		}
		defer root.Close()
		plan := evaluation.Plan{Capability: capability, Documents: heldOut(corpus.Read(root.FS(), corpus.HeldOutSplit))}
		if capability.Kind == evaluation.Retrieval {
			pairs, err := readPairs(root.FS())
			if err != nil {
				return evaluation.Suite{}, nil, err
			}
			plan.Queries = queries(pairs)
		}
		plans, parents = append(plans, plan), append(parents, dataset.Digest)
	}
	built, err := evaluation.Build(suiteSeed, evaluation.Window{}, plans...)
	return built, parents, lifecycle.Wrap(err, "build the suite of %s", service.Name)
}

func heldOut(docs iter.Seq2[corpus.Document, error]) iter.Seq2[evaluation.Document, error] {
	return func(yield func(evaluation.Document, error) bool) {
		for d, err := range docs {
			if !yield(evaluation.Document{ID: d.ID, Source: d.Source, Title: d.Title, Text: d.Text}, err) {
				return
			}
		}
	}
}

func queries(pairs []pair) iter.Seq2[evaluation.Query, error] {
	return func(yield func(evaluation.Query, error) bool) {
		for _, p := range pairs {
			if !yield(evaluation.Query{ID: p.ID, Group: p.Group, Text: p.Text, Document: p.Document}, nil) {
				return
			}
		}
	}
}

func unique(digests []lifecycle.Digest) []lifecycle.Digest {
	var out []lifecycle.Digest
	seen := map[lifecycle.Digest]bool{}
	for _, d := range digests {
		if !seen[d] {
			out = append(out, d)
		}
		seen[d] = true
	}
	return out
}

// Judge compares the answers of candidate and baseline, keeps the report and records the verdict. A question
// that was judged before keeps its verdict.
func (e Evaluation) Judge(ctx context.Context, in steps.JudgeGateInput) (lifecycle.Verdict, error) {
	defer beat(ctx, nil)()
	if before, err := e.judged(ctx, in.Service, in.Plan); err != nil || before != nil {
		return deref(before), err
	}
	suite, err := e.open(ctx, lifecycle.SuiteArtifact, in.Plan.Suite)
	if err != nil {
		return lifecycle.Verdict{}, err
	}
	defer suite.Close()
	files := evaluation.Files{
		Gate: evaluation.Gate{
			Service: in.Service, SuiteDigest: in.Plan.Suite, Candidate: in.Plan.Candidate, Baseline: in.Plan.Baseline,
			Policy: evaluation.Policy{Seed: suiteSeed},
		},
		Tree: suite.FS(), Candidate: e.answersOf(ctx, in.CandidateAnswers), Baseline: e.answersOf(ctx, in.BaselineAnswers),
	}
	parents := []lifecycle.Digest{in.Plan.Suite, in.CandidateAnswers}
	if in.Plan.Baseline != "" {
		parents = append(parents, in.BaselineAnswers)
	}
	if in.Comparisons != "" {
		files.Compared = e.fileOf(ctx, in.Comparisons, comparisonsFile)
		parents = append(parents, in.Comparisons)
	}
	if in.Labels != "" {
		files.Labelled = e.fileOf(ctx, in.Labels, labelsFile)
		parents = append(parents, in.Labels)
	}
	if files.Attempt, err = e.attempt(ctx, in.Service, in.Plan); err != nil {
		return lifecycle.Verdict{}, err
	}
	verdict, report, err := evaluation.JudgeFiles(files)
	if err != nil {
		return lifecycle.Verdict{}, lifecycle.Wrap(err, "judge release %s", in.Plan.Candidate.Short())
	}
	verdict.Report, err = e.keepReport(ctx, report, lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact}, Service: in.Service, MadeBy: in.By, Parents: unique(parents),
		Labels: map[string]string{
			reportLabel: "gate", candidateLabel: string(in.Plan.Candidate), baselineLabel: string(in.Plan.Baseline),
			suiteLabel: string(in.Plan.Suite), "outcome": string(verdict.Outcome),
		},
	})
	if err != nil {
		return lifecycle.Verdict{}, err
	}
	return e.Registry.AddEvaluation(ctx, verdict, in.By)
}

// Labels of reports: what sort, and of answers which suite and release.
const (
	reportLabel  = "report"
	suiteLabel   = "suite"
	releaseLabel = "release"
)

func deref(v *lifecycle.Verdict) lifecycle.Verdict {
	if v == nil {
		return lifecycle.Verdict{}
	}
	return *v
}

func (e Evaluation) keepReport(ctx context.Context, report evaluation.Report, as lifecycle.Artifact) (lifecycle.Digest, error) {
	raw, err := report.JSON()
	if err != nil {
		return "", err
	}
	ref, err := e.keep(ctx, as, func(to tree) error {
		if err := to.write("report.json", raw); err != nil {
			return err
		}
		return to.write("report.md", []byte(report.Markdown()))
	})
	return ref.Digest, err
}

// attempt counts which candidate this is that is held against this baseline and suite. The registry counts anew
// when it stores the verdict; this is for the report.
func (e Evaluation) attempt(ctx context.Context, service string, plan steps.EvaluationPlan) (int, error) {
	before, err := e.Registry.Evaluations(ctx, service, 10_000)
	others := map[lifecycle.Digest]bool{}
	for _, v := range before {
		if v.Baseline == plan.Baseline && v.Suite == plan.Suite && v.Candidate != plan.Candidate {
			others[v.Candidate] = true
		}
	}
	return len(others) + 1, err
}

// suiteFiles opens a suite, to be read in parts.
func (e Evaluation) suiteFiles(ctx context.Context, digest lifecycle.Digest) (files evaluation.SpanFiles, done func(), err error) {
	root, err := e.open(ctx, lifecycle.SuiteArtifact, digest)
	if err != nil {
		return files, nil, err
	}
	return evaluation.SpanFiles{Tree: root.FS()}, func() { _ = root.Close() }, nil // it was only read
}

// readSuite gives what gates may ask of a suite.
func (e Evaluation) readSuite(ctx context.Context, digest lifecycle.Digest) (evaluation.Suite, error) {
	root, err := e.open(ctx, lifecycle.SuiteArtifact, digest)
	if err != nil {
		return evaluation.Suite{}, err
	}
	defer root.Close()
	suite, err := evaluation.ReadSuite(root.FS())
	if err == nil {
		suite, err = suite.Only(evaluation.GateSplit)
	}
	return suite, lifecycle.Wrap(err, "read suite %s", digest.Short())
}

// answersOf opens an artifact of answers, as often as it is asked.
func (e Evaluation) answersOf(ctx context.Context, digest lifecycle.Digest) func() (io.ReadCloser, error) {
	return e.fileOf(ctx, digest, answersFile)
}
