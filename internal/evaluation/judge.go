package evaluation

import (
	"fmt"
	"math"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// Policy of a gate. The zero value works.
type Policy struct {
	Clusters      int      // fewer cannot be judged where scores are 0 or 1; default 15
	ScoreClusters int      // likewise for other scores; default 50
	Resamples     int      // of the bootstrap; default what stats.Resampling says
	Seed          uint64   // of the bootstrap and of bets; the same seed gives the same limits
	Exact         []string // capabilities judged by betting, besides those that the suite says
}

// Level is the error that a capability's pass may have, and that all regressions of a gate may have together.
const Level = 0.05

// Gate is a question: is the candidate as good as the baseline, by its answers to one suite?
type Gate struct {
	Service         string
	Suite           Suite
	SuiteDigest     lifecycle.Digest
	Candidate       lifecycle.Digest
	Baseline        lifecycle.Digest // "" where nothing serves yet
	CandidateAnswer Answers
	BaselineAnswer  Answers     // ignored where Baseline is empty
	Compared        Comparisons // likewise, and where the suite compares no answers
	Labels          Labels      // what scorers said of answers that people have judged; none where they were not asked
	Attempt         int         // from 1
	Policy          Policy
}

// Judge gives the verdict and the report that explains it. It does not fail: what cannot be judged is a
// verdict of error with its reasons. DecidedAt and Report are the caller's to fill.
func Judge(g Gate) (lifecycle.Verdict, Report) {
	g.Policy.defaults()
	return g.judge(g.Policy.rules())
}

func (p *Policy) defaults() {
	setDefault(&p.Clusters, 15)
	setDefault(&p.ScoreClusters, 50)
}

func setDefault(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}

func (g Gate) judge(by rules) (lifecycle.Verdict, Report) {
	candidate, baseline, faults := g.sheets()
	var compared map[place]Comparison
	if len(faults) == 0 {
		compared, faults = g.comparisons(candidate, baseline)
	}
	if len(faults) > 0 {
		report := g.report()
		report.Verdict.Outcome, report.Verdict.Reasons = lifecycle.ErrorOutcome, faults
		return report.Verdict, report
	}
	return g.conclude(tallies(g.Suite, candidate, baseline, compared, g.Labels.found()), by)
}

// report begins a report.
func (g Gate) report() Report {
	return Report{Verdict: lifecycle.Verdict{
		Service: g.Service, Candidate: g.Candidate, Baseline: g.Baseline, Suite: g.SuiteDigest, Attempt: g.Attempt,
	}}
}

// conclude judges what was summed up.
func (g Gate) conclude(sums []*tally, by rules) (lifecycle.Verdict, Report) {
	report := g.report()
	if g.Baseline == "" {
		first(&report, sums)
	} else {
		g.compare(&report, sums, by)
	}
	return report.Verdict, report
}

// sheets reads both sides' answers; without a baseline the candidate stands on both.
func (g Gate) sheets() (candidate, baseline sheet, faults []string) {
	if err := g.Suite.Check(); err != nil {
		faults = append(faults, err.Error())
	}
	if err := g.Suite.forGates(); err != nil {
		faults = append(faults, err.Error())
	}
	for _, name := range g.Policy.Exact {
		if !slices.ContainsFunc(g.Suite.Capabilities, func(c Capability) bool { return c.Name == name }) {
			faults = append(faults, fmt.Sprintf("exact limits are asked for %q, which the suite does not hold", name))
		}
	}
	if g.Labels.List != nil && g.Labels.Suite != g.SuiteDigest {
		faults = append(faults, fmt.Sprintf("labels: of suite %s, not %s", or(g.Labels.Suite), or(g.SuiteDigest)))
	}
	candidate, more := check("candidate", g.Suite, g.SuiteDigest, g.Candidate, g.CandidateAnswer)
	faults = append(faults, more...)
	if g.Baseline == "" {
		return candidate, candidate, faults
	}
	baseline, more = check("baseline", g.Suite, g.SuiteDigest, g.Baseline, g.BaselineAnswer)
	return candidate, baseline, append(faults, more...)
}

// first judges a release that nothing can be compared with: every case was answered, or Judge had stopped.
func first(report *Report, sums []*tally) {
	v := &report.Verdict
	for _, t := range sums {
		v.Capabilities = append(v.Capabilities, lifecycle.CapabilityVerdict{
			Capability: t.Name, Metric: t.Metric, Items: t.cases, Clusters: len(t.differences), Candidate: t.mean(t.candidate),
			Margin: t.Margin, PRegress: 1, Outcome: lifecycle.PassOutcome, Reason: "every case was answered; nothing to compare with",
		})
	}
	v.Outcome = lifecycle.PassOutcome
	v.Reasons = []string{"first release: nothing to compare with; every case was answered"}
	for i, t := range sums {
		report.Capabilities = append(report.Capabilities, t.report())
		if err := t.believed(); err != nil {
			one := &v.Capabilities[i]
			one.Outcome, one.Reason = lifecycle.ErrorOutcome, err.Error()
			if v.Outcome != lifecycle.ErrorOutcome {
				v.Outcome, v.Reasons = lifecycle.ErrorOutcome, nil
			}
			v.Reasons = append(v.Reasons, t.Name+": "+one.Reason)
		}
	}
}

// compare judges capability by capability, then the whole.
func (g Gate) compare(report *Report, sums []*tally, by rules) {
	v := &report.Verdict
	p := make([]float64, len(sums))
	report.ChanceUnchanged = 1
	report.AttemptsError = attemptsError(g.Attempt)
	for i, t := range sums {
		one, detail, err := g.capability(t, by, len(sums))
		if err == nil {
			err = t.believed()
		}
		if err != nil {
			one.Outcome, one.Reason, one.PRegress = lifecycle.ErrorOutcome, err.Error(), 1
		}
		p[i] = one.PRegress
		v.Capabilities = append(v.Capabilities, one)
		if one.Outcome != "" {
			detail.ChanceUnchanged = 0 // it passes nothing
		}
		report.Capabilities = append(report.Capabilities, detail)
		report.ChanceUnchanged *= detail.ChanceUnchanged
	}
	adjusted, err := by.correct(p)
	if err != nil {
		v.Outcome, v.Reasons = lifecycle.ErrorOutcome, []string{"correct for several capabilities: " + err.Error()}
		return
	}
	for i := range v.Capabilities {
		one, detail := &v.Capabilities[i], &report.Capabilities[i]
		detail.ProvenDrop = adjusted[i] <= Level && one.Outcome == ""
		decide(one, *detail, by.inside(one.Low, one.Margin))
		if one.Outcome == lifecycle.ErrorOutcome {
			report.ChanceUnchanged = 0
		}
	}
	decideAll(v)
}

// attemptsError gives the chance that one of so many candidates at the margin passed.
func attemptsError(attempts int) float64 { return 1 - math.Pow(1-Level, float64(max(1, attempts))) }

// capability computes one capability's limits. Its outcome is still open, unless it cannot be judged.
func (g Gate) capability(t *tally, by rules, capabilities int) (lifecycle.CapabilityVerdict, CapabilityReport, error) {
	one := lifecycle.CapabilityVerdict{
		Capability: t.Name, Metric: t.Metric, Items: t.cases, Clusters: len(t.differences), Margin: t.Margin, PRegress: 1,
		Candidate: t.mean(t.candidate), Baseline: t.mean(t.baseline),
	}
	detail := t.report()
	if least := g.Policy.fewest(t); one.Clusters < least {
		one.Outcome = lifecycle.UnderpoweredOutcome
		one.Reason = fmt.Sprintf("%d groups of cases are too few to judge by; it needs %d", one.Clusters, least)
	}
	if one.Clusters < 2 { // one group says nothing of how groups differ
		one.Low, one.High = -math.MaxFloat64, math.MaxFloat64
		return one, detail, nil
	}
	seen, err := by.look(t)
	if err != nil {
		return one, detail, fmt.Errorf("compare %s: %w", t.Name, err)
	}
	one.Low, one.High, detail.Method, detail.DesignEffect = seen.low, seen.high, seen.method, seen.effect
	counts := countsOf(t.differences)
	if t.Binary() {
		detail.OnlyCandidate, detail.OnlyBaseline = counts.Better, counts.Worse
	}
	if one.Outcome == "" { // limits of too few groups are shown and not acted on
		one.PRegress = seen.drop
	}
	if !finite(one.Low) || !finite(one.High) || math.IsNaN(one.PRegress) {
		return one, detail, fmt.Errorf("compare %s: a limit is no number", t.Name)
	}
	if by.foresee != nil {
		err = by.foresee(t, seen, capabilities, &detail)
	}
	return one, detail, err
}

// report begins a capability's report with what can be said without comparing.
func (t *tally) report() CapabilityReport {
	return CapabilityReport{
		Name: t.Name, Metric: t.Metric, Samples: t.samples, DesignEffect: 1, Changed: append([]Change{}, t.changed.list...),
		Flaky: t.flaky.list, FlakyCandidate: t.flakyCandidate, FlakyBaseline: t.flakyBaseline,
		SmallestDrop: unknown(), SmallestMargin: unknown(), Pairwise: t.pairwise, Agreement: t.agreement(),
	}
}

// fewest is how many groups of cases a capability needs.
func (p Policy) fewest(t *tally) int {
	if t.Binary() || p.exact(t) {
		return p.Clusters
	}
	return p.ScoreClusters
}

// decide gives one capability's outcome. A proven drop that is also proven to lie inside the margin passes.
func decide(one *lifecycle.CapabilityVerdict, detail CapabilityReport, inside bool) {
	if one.Outcome != "" {
		return
	}
	difference := one.Candidate - one.Baseline
	switch {
	case inside && detail.ProvenDrop:
		one.Outcome = lifecycle.PassOutcome
		one.Reason = fmt.Sprintf("it dropped by %.4g, provenly by less than the margin %.4g", -difference, one.Margin)
	case inside:
		one.Outcome = lifecycle.PassOutcome
		one.Reason = fmt.Sprintf("changed by %+.4g; a drop is at most %.4g, the margin is %.4g", difference, max(0, -one.Low), one.Margin)
	case detail.ProvenDrop:
		one.Outcome = lifecycle.RegressOutcome
		one.Reason = fmt.Sprintf("it dropped by %.4g (p %.2g), and the drop may reach %.4g; the margin is %.4g", -difference, one.PRegress, -one.Low, one.Margin)
	default:
		one.Outcome = lifecycle.UnderpoweredOutcome
		one.Reason = fmt.Sprintf("changed by %+.4g; the drop may reach %.4g and the margin is %.4g", difference, -one.Low, one.Margin)
		if detail.ItemsNeeded > one.Items {
			one.Reason += fmt.Sprintf("; about %d cases would tell", detail.ItemsNeeded)
		}
	}
}

// decideAll gives the gate's outcome: error, then regress, then pass if all pass, else underpowered.
func decideAll(v *lifecycle.Verdict) {
	worst := lifecycle.PassOutcome
	order := []lifecycle.Outcome{lifecycle.PassOutcome, lifecycle.UnderpoweredOutcome, lifecycle.RegressOutcome, lifecycle.ErrorOutcome}
	for _, c := range v.Capabilities {
		if slices.Index(order, c.Outcome) > slices.Index(order, worst) {
			worst = c.Outcome
		}
		if !slices.Contains(order, c.Outcome) { // cannot be; unknown is never pass
			worst = lifecycle.ErrorOutcome
		}
	}
	for _, c := range v.Capabilities {
		if c.Outcome == worst {
			v.Reasons = append(v.Reasons, c.Capability+": "+c.Reason)
		}
	}
	if len(v.Capabilities) == 0 {
		worst, v.Reasons = lifecycle.ErrorOutcome, []string{"the suite has no capability"}
	}
	v.Outcome = worst
}
