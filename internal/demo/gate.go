package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// refuseForgetful trains a candidate on the fresh domain alone and asks to promote it. That it is better in the one
// and worse in the rest is what the gate says, not what this code believes.
func (r *run) refuseForgetful(ctx context.Context) error {
	if r.state.Forgetful.Release == "" {
		if err := r.train(ctx, "forgetful", r.settings.Forget, &r.state.Forgetful); err != nil {
			return err
		}
	}
	candidate := r.state.Forgetful.Release
	_, err := r.promotion(ctx, candidate, "it knows the fresh domain best")
	if err == nil {
		return lifecycle.Errorf(lifecycle.Conflict, "the gate let release %s pass, which was trained to forget", candidate.Short())
	}
	if !lifecycle.Is(err, lifecycle.Regress) {
		return lifecycle.Wrap(err, "the gate did not prove a drop")
	}
	verdict, err := r.verdictOn(ctx, candidate)
	if err != nil {
		return err
	}
	r.scores(verdict)
	better, worse := changed(verdict)
	r.view.say("refused: better in %s; worse in %s", list(better), list(worse))
	if len(better) < 1 || len(worse) < r.settings.Worse {
		return lifecycle.Errorf(lifecycle.Conflict, "it was refused, but not for being better in one capability and worse in %d: better in %s, worse in %s",
			r.settings.Worse, list(better), list(worse))
	}
	reasons := append(slices.Clone(verdict.Reasons), "proven better in "+list(better)+", proven worse in "+list(worse))
	r.state.Summary.Refused = RefusedLine{Release: candidate, Verdict: verdict.Outcome, Reasons: reasons}
	r.addRelease("forgetful", candidate, "refused", strings.Join(verdict.Reasons, "; "))
	return nil
}

// changed names the capabilities whose limits lie wholly above or below no change.
func changed(v lifecycle.Verdict) (better, worse []string) {
	for _, c := range v.Capabilities {
		switch {
		case c.Low > 0:
			better = append(better, c.Capability)
		case c.High < 0:
			worse = append(worse, c.Capability)
		}
	}
	return better, worse
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// verdictOn gives the newest verdict on a candidate.
func (r *run) verdictOn(ctx context.Context, candidate lifecycle.Digest) (lifecycle.Verdict, error) {
	all, err := control.Call(ctx, r.client, control.Evaluations, control.EvaluationsInput{Service: r.service.Name})
	if err != nil {
		return lifecycle.Verdict{}, err
	}
	i := slices.IndexFunc(all, func(v lifecycle.Verdict) bool { return v.Candidate == candidate })
	if i < 0 {
		return lifecycle.Verdict{}, lifecycle.Errorf(lifecycle.NotFound, "there is no verdict on release %s", candidate.Short())
	}
	return all[i], nil
}

// evaluate asks the gate alone, before anybody wants to promote.
func (r *run) evaluate(ctx context.Context) error {
	verdict, err := r.judge(ctx, r.state.Candidate.Release)
	if err != nil {
		return err
	}
	r.state.Gate = verdict
	r.state.Summary.Scores = r.state.Summary.Scores[:0]
	for _, c := range verdict.Capabilities {
		r.state.Summary.Scores = append(r.state.Summary.Scores, ScoreLine{
			Capability: c.Capability, Metric: c.Metric, Baseline: c.Baseline, Candidate: c.Candidate,
			Low: c.Low, High: c.High, Verdict: c.Outcome,
		})
	}
	return nil
}

// judge evaluates a release against what serves. Everything but pass is an error.
func (r *run) judge(ctx context.Context, release lifecycle.Digest) (lifecycle.Verdict, error) {
	var verdict lifecycle.Verdict
	err := r.loop(ctx, steps.EvaluateRelease, steps.EvaluationInput{Service: r.service.Name, Release: string(release)}, &verdict)
	if err != nil {
		return verdict, err
	}
	r.scores(verdict)
	r.view.say("gate: %s", verdict.Outcome)
	return verdict, verdict.Outcome.Err(strings.Join(verdict.Reasons, "; "))
}

// scores prints both sides.
func (r *run) scores(v lifecycle.Verdict) {
	var rows [][]string
	for _, c := range v.Capabilities {
		rows = append(rows, scoreRow(ScoreLine{c.Capability, c.Metric, c.Baseline, c.Candidate, c.Low, c.High, c.Outcome}))
	}
	var out strings.Builder
	columns(&out, append([][]string{scoreHeader()}, rows...))
	for line := range strings.Lines(out.String()) {
		r.view.say("%s", strings.TrimRight(line, " \n"))
	}
}

func scoreHeader() []string {
	return []string{"capability", "metric", "baseline", "candidate", "difference", "verdict"}
}

// scoreRow shows bits per byte as people know them: positive, and less is better.
func scoreRow(l ScoreLine) []string {
	if l.Metric == bitsPerByte {
		l.Metric += " (less is better)"
		l.Baseline, l.Candidate, l.Low, l.High = 0-l.Baseline, 0-l.Candidate, 0-l.High, 0-l.Low // 0-0 is no -0
	}
	return []string{
		l.Capability, l.Metric, fmt.Sprintf("%.4f", l.Baseline), fmt.Sprintf("%.4f", l.Candidate),
		fmt.Sprintf("%+.4f to %+.4f", l.Low, l.High), string(l.Verdict),
	}
}

// bitsPerByte is the one metric of the gate that is stored negated.
const bitsPerByte = "bits-per-byte"
