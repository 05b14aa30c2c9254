package activities

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.temporal.io/sdk/activity"

	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// cleanedLabel is the label of a dataset without the documents that hit: the dataset as it was.
const cleanedLabel = "cleaned_of"

// Screen holds a job's training data against every suite of the service: the one that today's declaration gives, and all
// that the registry has, because any of them may be asked again: the same documents give the same suite. By policy
// documents that hold a case are taken out, into a dataset of its own, or the job is Refused. A report names the hits
// either way, also where there are none. A suite that cannot be read is an error.
func (d Datasets) Screen(ctx context.Context, in steps.ScreenInput) (steps.ScreenResult, error) {
	var progress report
	ctx, done := long(ctx, progress.details)
	defer done()
	var out steps.ScreenResult
	service, err := d.Registry.Service(ctx, in.Service)
	if err != nil {
		return out, err
	}
	if out.Missing, err = d.undrawn(ctx, service); err != nil || len(out.Missing) > 0 {
		return out, err
	}
	known, err := d.suites(ctx, service, in.Policy, in.By)
	if err != nil {
		return out, err
	}
	found := known.findings(in.Job)
	report, err := d.keepFindings(ctx, in.Service, in.By, &found, func(hit func(corpus.Hit) error) error {
		for _, name := range slices.Sorted(maps.Keys(in.Datasets)) {
			looked, err := d.look(ctx, known, in, name, &progress, hit)
			if err != nil {
				return lifecycle.Wrap(err, "screen dataset %s of job %s", name, in.Job)
			}
			found.Datasets = append(found.Datasets, looked)
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Screened = found.summary(report)
	if err := d.recordScreen(ctx, in, out.Screened, known.policy.Action); err != nil {
		return out, err
	}
	if out.Screened.Hits > 0 && known.policy.Action == lifecycle.RefuseContaminated {
		return out, refusedFor(in.Job, out.Screened)
	}
	out.Datasets, err = d.clean(ctx, in, found, report)
	return out, err
}

// undrawn names the corpora that capabilities ask and of which there is no dataset: before there is one nobody knows
// what the suite will ask.
func (d Datasets) undrawn(ctx context.Context, service lifecycle.Service) ([]string, error) {
	var missing []string
	for _, c := range service.Evaluation.Capabilities {
		if c.Corpus == "" || slices.Contains(missing, c.Corpus) {
			continue
		}
		_, err := d.Registry.LatestArtifact(ctx, service.Name, lifecycle.DatasetArtifact, map[string]string{corpusLabel: c.Corpus})
		switch {
		case lifecycle.Is(err, lifecycle.NotFound):
			missing = append(missing, c.Corpus)
		case err != nil:
			return nil, err
		}
	}
	return missing, nil
}

// known is every suite of a service, ready to be looked for.
type known struct {
	*corpus.Screen
	policy          lifecycle.Contamination
	read            []lifecycle.Digest
	cases, tooShort int
}

// suites reads every suite of a service, newest first. Cases that are the same in several count once.
func (d Datasets) suites(ctx context.Context, service lifecycle.Service, policy lifecycle.Contamination, by lifecycle.Actor) (known, error) {
	policy = policy.WithDefaults()
	k := known{Screen: corpus.NewScreen(corpus.ScreenOptions{Words: policy.Words, Similarity: policy.Similarity}), policy: policy}
	if len(service.Evaluation.Capabilities) > 0 || service.Evaluation.Suite.Given() {
		if _, _, err := (Evaluation{Shelf: d.Shelf, Roots: d.Roots}).suite(ctx, service, by); err != nil { // it is in the registry from now on
			return k, err
		}
	}
	all, err := d.Registry.ArtifactsOf(ctx, service.Name, lifecycle.SuiteArtifact)
	if err != nil {
		return k, err
	}
	for _, artifact := range all {
		suite, err := d.wholeSuite(ctx, artifact.Digest)
		if err != nil {
			return k, err
		}
		kinds := map[string]string{}
		for _, c := range suite.Capabilities {
			kinds[c.Name] = c.Kind
		}
		for _, c := range suite.Cases {
			k.Add(corpus.Known{Suite: artifact.Digest, Case: c.ID, Texts: caseTexts(kinds[c.Capability], c)})
		}
		k.read = append(k.read, artifact.Digest)
		if err := stopped(ctx); err != nil {
			return k, err
		}
	}
	k.cases, k.tooShort = k.Cases()
	return k, nil
}

// suitesThereAre is suites for what is trained on much later: corpora that have no dataset yet are named, and the suite
// that will be drawn of them is screened for before anything is trained.
func (d Datasets) suitesThereAre(ctx context.Context, in steps.CurateInput) (known, []string, error) {
	service, err := d.Registry.Service(ctx, in.Service)
	if err != nil {
		return known{}, nil, err
	}
	unmade, err := d.undrawn(ctx, service)
	if err != nil {
		return known{}, nil, err
	}
	if len(unmade) > 0 {
		service.Evaluation.Capabilities = nil
	}
	k, err := d.suites(ctx, service, in.Contamination, in.By)
	return k, unmade, err
}

// wholeSuite reads both splits of a suite.
func (s Shelf) wholeSuite(ctx context.Context, digest lifecycle.Digest) (evaluation.Suite, error) {
	root, err := s.open(ctx, lifecycle.SuiteArtifact, digest)
	if err != nil {
		return evaluation.Suite{}, err
	}
	defer root.Close()
	suite, err := evaluation.ReadSuite(root.FS())
	return suite, lifecycle.Wrap(err, "read suite %s", digest.Short())
}

// caseTexts are the texts of a case that nobody may learn: what is asked, what is right, and both in a row. System
// messages and passages are not: they are the same for many cases, and no secret.
func caseTexts(kind string, c evaluation.Case) []string {
	var asked []string
	for _, m := range c.Messages {
		if m.Role != "system" {
			asked = append(asked, m.Content)
		}
	}
	asked = append(asked, c.Text)
	whole := strings.Join(asked, " ")
	texts := append(asked, whole)
	if kind != evaluation.Retrieval { // where what is right are IDs of documents
		for _, right := range c.References() {
			texts = append(texts, right, whole+" "+right)
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// findings is report.json of a screen.
type findings struct {
	Job      string                  `json:"job"`
	Policy   lifecycle.Contamination `json:"policy"`
	Suites   []lifecycle.Digest      `json:"suites"` // newest first
	Cases    int                     `json:"cases"`
	TooShort int                     `json:"too_short"`        // cases that cannot be recognised: under 8 words
	Unmade   []string                `json:"unmade,omitempty"` // corpora without a dataset: what suites will ask of them was not looked for
	Datasets []looked                `json:"datasets"`
}

// looked is one dataset after a screen.
type looked struct {
	Name      string           `json:"name"`
	Dataset   lifecycle.Digest `json:"dataset"`
	Documents int              `json:"documents"` // of its training part
	Hits      int              `json:"hits"`      // documents that hold a case
	Learned   bool             `json:"learned"`   // the model to continue from was trained on it: that cannot be taken back

	hit map[string]bool // their IDs
}

func (k known) findings(job string) findings {
	return findings{Job: job, Policy: k.policy, Suites: k.read, Cases: k.cases, TooShort: k.tooShort, Datasets: []looked{}}
}

// look reads the training part of one dataset.
func (d Datasets) look(ctx context.Context, k known, in steps.ScreenInput, name string, progress *report, hit func(corpus.Hit) error) (looked, error) {
	l := looked{Name: name, Dataset: in.Datasets[name], Learned: slices.Contains(in.Learned, name), hit: map[string]bool{}}
	root, err := d.open(ctx, lifecycle.DatasetArtifact, l.Dataset)
	if err != nil {
		return l, err
	}
	defer root.Close()
	for doc, err := range until(ctx, corpus.Read(root.FS(), corpus.TrainSplit)) {
		if err != nil {
			return l, err
		}
		l.Documents++
		if l.Documents%1000 == 0 {
			progress.set(lifecycle.Progress{Step: int64(l.Documents), Message: "screening " + name})
		}
		for _, found := range k.Find(doc) {
			l.hit[doc.ID] = true
			if err := hit(found); err != nil {
				return l, err
			}
		}
	}
	l.Hits = len(l.hit)
	return l, nil
}

func (f findings) summary(report lifecycle.Digest) steps.Screened {
	s := steps.Screened{Job: f.Job, Report: report, Cases: f.Cases}
	for _, l := range f.Datasets {
		s.Documents += l.Documents
		s.Hits += l.Hits
		if l.Learned {
			s.Learned += l.Hits
		}
	}
	if f.Policy.Action == lifecycle.RemoveContaminated {
		s.Removed = s.Hits
	}
	return s
}

// Files of a screen's report.
const (
	findingsFile = "report.json"
	hitsFile     = "hits.jsonl" // one corpus.Hit a line
)

// keepFindings keeps the report of a screen: find fills the findings and hands over each hit, which goes to the disk.
func (s Shelf) keepFindings(ctx context.Context, service string, by lifecycle.Actor, f *findings, find func(hit func(corpus.Hit) error) error) (lifecycle.Digest, error) {
	as := lifecycle.Artifact{ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact}, Service: service, MadeBy: by}
	dir, cleanUp, err := s.scratch(lifecycle.ScreenLabel)
	if err != nil {
		return "", err
	}
	defer cleanUp()
	if err := writeHits(dir, find); err != nil {
		return "", err
	}
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode the report of a screen: %w", err)
	}
	if err := dir.write(findingsFile, append(raw, '\n')); err != nil {
		return "", err
	}
	hits := 0
	as.Parents = slices.Clone(f.Suites)
	for _, l := range f.Datasets {
		hits += l.Hits
		if l.Dataset != "" {
			as.Parents = append(as.Parents, l.Dataset)
		}
	}
	as.Parents = unique(as.Parents)
	as.Labels = map[string]string{reportLabel: lifecycle.ScreenLabel, "job": f.Job, "hits": strconv.Itoa(hits)}
	ref, err := s.keepDir(ctx, as, string(dir))
	return ref.Digest, err
}

func writeHits(to tree, find func(hit func(corpus.Hit) error) error) (err error) {
	file, err := to.Create(hitsFile)
	if err != nil {
		return fmt.Errorf("write %s: %w", hitsFile, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriter(file)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := find(func(hit corpus.Hit) error { return encoder.Encode(hit) }); err != nil {
		return err
	}
	return out.Flush()
}

// recordScreen writes what came of a screen to the ledger, once for a run and its job.
func (d Datasets) recordScreen(ctx context.Context, in steps.ScreenInput, s steps.Screened, action string) error {
	evidence, err := json.Marshal(map[string]any{
		"job": s.Job, "datasets": in.Datasets, "action": action,
		"cases": s.Cases, "documents": s.Documents, "hits": s.Hits, "removed": s.Removed, "learned": s.Learned,
	})
	if err != nil {
		return fmt.Errorf("encode the evidence of a screen: %w", err)
	}
	return d.Registry.AppendLedger(ctx, lifecycle.LedgerEntry{
		Service: in.Service, Kind: lifecycle.DataScreened, Subject: string(s.Report), Actor: in.By,
		Reason: fmt.Sprintf("%d of %d documents hold cases of suites", s.Hits, s.Documents), Evidence: evidence,
	}, "screen/"+activity.GetInfo(ctx).WorkflowExecution.RunID+"/"+in.Job)
}

func refusedFor(job string, s steps.Screened) error {
	wayOut := "take them out of the corpus, or set training.contamination.action: remove"
	if s.Learned > 0 {
		wayOut = fmt.Sprintf("%d of them are in what the base model was trained on, so train the base anew; %s", s.Learned, wayOut)
	}
	return &lifecycle.Error{
		Kind: lifecycle.Refused,
		Message: fmt.Sprintf("%d of %d documents of job %s hold cases of suites that gates ask; report %s lists them; %s",
			s.Hits, s.Documents, job, s.Report.Short(), wayOut),
		Fields: map[string]string{"job": job, "report": string(s.Report)},
	}
}

// clean gives the job's datasets, those that were hit without the documents that were.
func (d Datasets) clean(ctx context.Context, in steps.ScreenInput, f findings, report lifecycle.Digest) (map[string]lifecycle.Digest, error) {
	out := map[string]lifecycle.Digest{}
	for _, l := range f.Datasets {
		out[l.Name] = l.Dataset
		if l.Hits == 0 {
			continue
		}
		cleaned, err := d.without(ctx, in, l, report)
		if err != nil {
			return nil, lifecycle.Wrap(err, "clean dataset %s", l.Dataset.Short())
		}
		out[l.Name] = cleaned
	}
	return out, nil
}

func (d Datasets) without(ctx context.Context, in steps.ScreenInput, l looked, report lifecycle.Digest) (lifecycle.Digest, error) {
	root, err := d.open(ctx, lifecycle.DatasetArtifact, l.Dataset)
	if err != nil {
		return "", err
	}
	defer root.Close()
	// It has no label of its corpus: suites are drawn from what the corpus gave, and so is the next dataset.
	ref, err := d.keep(ctx, lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.DatasetArtifact}, Service: in.Service, MadeBy: in.By,
		Parents: []lifecycle.Digest{l.Dataset, report},
		Labels: map[string]string{
			cleanedLabel: string(l.Dataset), lifecycle.ScreenLabel: string(report), "removed": strconv.Itoa(l.Hits),
		},
	}, func(to tree) error {
		if _, err := corpus.Rewrite(to, root.FS(), l.hit, corpus.Contaminated); err != nil {
			return err
		}
		return besides(to, root.FS(), l.Dataset)
	})
	return ref.Digest, err
}

// besides copies what a dataset has beside its documents, and says of what it was cleaned.
func besides(to tree, dataset fs.FS, of lifecycle.Digest) error {
	pairs, err := fs.ReadFile(dataset, pairsFile)
	if err != nil {
		return lifecycle.Errorf(lifecycle.Corrupt, "read a dataset's relevance pairs: %w", err)
	}
	if err := to.write(pairsFile, pairs); err != nil {
		return err
	}
	raw, err := fs.ReadFile(dataset, aboutFile)
	var said about
	if err == nil {
		err = json.Unmarshal(raw, &said)
	}
	if err != nil {
		return lifecycle.Errorf(lifecycle.Corrupt, "read %s: %w", aboutFile, err)
	}
	said.CleanedOf = of
	if raw, err = json.Marshal(said); err != nil {
		return fmt.Errorf("encode %s: %w", aboutFile, err)
	}
	return to.write(aboutFile, append(raw, '\n'))
}
