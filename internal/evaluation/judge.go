package evaluation

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

// Policy of a gate. The zero value works.
type Policy struct {
	Clusters      int    // fewer cannot be judged where scores are 0 or 1; default 15
	ScoreClusters int    // likewise for other scores; default 50
	Resamples     int    // of the bootstrap; default what stats.Resampling says
	Seed          uint64 // of the bootstrap; the same seed gives the same limits
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
	BaselineAnswer  Answers // ignored where Baseline is empty
	Attempt         int     // from 1
	Policy          Policy
}

// Judge gives the verdict and the report that explains it. It does not fail: what cannot be judged is a
// verdict of error with its reasons. DecidedAt and Report are the caller's to fill.
func Judge(g Gate) (lifecycle.Verdict, Report) {
	setDefault(&g.Policy.Clusters, 15)
	setDefault(&g.Policy.ScoreClusters, 50)
	report := Report{Verdict: lifecycle.Verdict{
		Service: g.Service, Candidate: g.Candidate, Baseline: g.Baseline, Suite: g.SuiteDigest, Attempt: g.Attempt,
	}}
	v := &report.Verdict
	var faults []string
	if err := g.Suite.Check(); err != nil {
		faults = append(faults, err.Error())
	}
	candidate, more := check("candidate", g.Suite, g.SuiteDigest, g.Candidate, g.CandidateAnswer)
	faults = append(faults, more...)
	baseline := candidate
	if g.Baseline != "" {
		baseline, more = check("baseline", g.Suite, g.SuiteDigest, g.Baseline, g.BaselineAnswer)
		faults = append(faults, more...)
	}
	if len(faults) > 0 {
		v.Outcome, v.Reasons = lifecycle.ErrorOutcome, faults
		return *v, report
	}
	pairs := pairsOf(g.Suite, candidate, baseline)
	if g.Baseline == "" {
		g.first(&report, pairs)
	} else {
		g.compare(&report, pairs)
	}
	return *v, report
}

func setDefault(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}

// first judges a release that nothing can be compared with: every case was answered, or Judge had stopped.
func (g Gate) first(report *Report, pairs map[string][]pair) {
	v := &report.Verdict
	for _, c := range g.Suite.Capabilities {
		clusters := clustersOf(pairs[c.Name], candidateScore)
		v.Capabilities = append(v.Capabilities, lifecycle.CapabilityVerdict{
			Capability: c.Name, Metric: c.Metric, Items: len(pairs[c.Name]), Clusters: len(clusters),
			Candidate: meanOf(pairs[c.Name], candidateScore),
			Margin:    c.Margin, PRegress: 1, Outcome: lifecycle.PassOutcome, Reason: "every case was answered; nothing to compare with",
		})
	}
	v.Outcome = lifecycle.PassOutcome
	v.Reasons = []string{"first release: nothing to compare with; every case was answered"}
}

// compare judges capability by capability, then the whole.
func (g Gate) compare(report *Report, pairs map[string][]pair) {
	v := &report.Verdict
	p := make([]float64, len(g.Suite.Capabilities))
	report.ChanceUnchanged = 1
	for i, c := range g.Suite.Capabilities {
		one, detail, err := g.capability(c, pairs[c.Name])
		if err != nil {
			one.Outcome, one.Reason, one.PRegress = lifecycle.ErrorOutcome, err.Error(), 1
		}
		p[i] = one.PRegress
		v.Capabilities = append(v.Capabilities, one)
		if one.Outcome != "" {
			detail.ChanceUnchanged = 0
		}
		report.Capabilities = append(report.Capabilities, detail)
		report.ChanceUnchanged *= float64(detail.ChanceUnchanged)
	}
	adjusted, err := stats.Holm(p)
	if err != nil {
		v.Outcome, v.Reasons = lifecycle.ErrorOutcome, []string{"correct for several capabilities: " + err.Error()}
		return
	}
	for i := range v.Capabilities {
		decide(&v.Capabilities[i], &report.Capabilities[i], adjusted[i] <= Level)
	}
	conclude(v)
}

// capability computes one capability's limits. Its outcome is still open, unless it cannot be judged.
func (g Gate) capability(c Capability, pairs []pair) (lifecycle.CapabilityVerdict, CapabilityReport, error) {
	clusters := clustersOf(pairs, pair.difference)
	one := lifecycle.CapabilityVerdict{
		Capability: c.Name, Metric: c.Metric, Items: len(pairs), Clusters: len(clusters), Margin: c.Margin, PRegress: 1,
	}
	one.Candidate, one.Baseline = meanOf(pairs, candidateScore), meanOf(pairs, baselineScore)
	detail := CapabilityReport{Name: c.Name, Metric: c.Metric, Changed: changed(pairs), DesignEffect: 1}
	least := g.Policy.ScoreClusters
	if c.Binary() {
		least = g.Policy.Clusters
	}
	if len(clusters) < least {
		one.Outcome = lifecycle.UnderpoweredOutcome
		one.Reason = fmt.Sprintf("%d groups of cases are too few to judge by; it needs %d", len(clusters), least)
	}
	if len(clusters) < 2 { // one group says nothing of how groups differ
		one.Low, one.High = -math.MaxFloat64, math.MaxFloat64
		detail.SmallestDrop, detail.SmallestMargin = number(math.NaN()), number(math.NaN())
		return one, detail, nil
	}
	var err error
	var deviation float64
	if c.Binary() {
		deviation, err = g.binary(&one, &detail, pairs, clusters)
	} else {
		deviation, err = g.scores(&one, clusters)
	}
	if err != nil {
		return one, detail, fmt.Errorf("compare %s: %w", c.Name, err)
	}
	if one.Outcome == lifecycle.UnderpoweredOutcome {
		one.PRegress = 1 // limits of so few groups are shown and not acted on
	}
	if !finite(one.Low) || !finite(one.High) || math.IsNaN(one.PRegress) {
		return one, detail, fmt.Errorf("compare %s: a limit is no number", c.Name)
	}
	detail.fill(one, deviation, len(g.Suite.Capabilities))
	return one, detail, nil
}

// binary compares scores of 0 or 1 and gives the standard deviation of the difference of an unchanged
// candidate.
func (g Gate) binary(one *lifecycle.CapabilityVerdict, detail *CapabilityReport, pairs []pair, clusters [][]float64) (float64, error) {
	for _, p := range pairs {
		switch {
		case p.difference() > 0:
			detail.OnlyCandidate++
		case p.difference() < 0:
			detail.OnlyBaseline++
		}
	}
	discordant := detail.OnlyCandidate + detail.OnlyBaseline
	grouped := len(clusters) < len(pairs)
	var err error
	if grouped {
		if detail.DesignEffect, err = g.effect(pairs, clusters, discordant); err != nil {
			return 0, err
		}
	}
	counts := stats.Pairs{Better: float64(detail.OnlyCandidate), Worse: float64(detail.OnlyBaseline), N: float64(len(pairs))}.Over(detail.DesignEffect)
	if one.Low, err = stats.TangoLower(counts, Level); err != nil {
		return 0, err
	}
	if one.High, err = stats.TangoUpper(counts, Level); err != nil {
		return 0, err
	}
	if one.PRegress, err = stats.McNemar(counts); err != nil {
		return 0, err
	}
	if grouped && discordant > 0 {
		// Tango and McNemar know nothing of how few the clusters are; the t limits do.
		limits, err := stats.ClusterLimits(clusters, Level)
		if err != nil {
			return 0, err
		}
		one.Low, one.High = min(one.Low, limits.Low), max(one.High, limits.High)
		one.PRegress = max(one.PRegress, limits.PDrop)
	}
	// Half a discordant case more, so that none is not certainty.
	rate := (float64(discordant) + 0.5) / (float64(len(pairs)) + 1)
	return math.Sqrt(rate / counts.N), nil
}

// enoughDiscordant is from how many differing cases their own design effect is trusted alone.
const enoughDiscordant = 10

// effect gives the design effect of the differences. Where too few cases differ to tell how they hang
// together, it is at least that of the baseline's scores.
func (g Gate) effect(pairs []pair, clusters [][]float64, discordant int) (float64, error) {
	effect, err := stats.DesignEffect(clusters)
	if err != nil || discordant >= enoughDiscordant {
		return effect, err
	}
	own, err := stats.DesignEffect(clustersOf(pairs, baselineScore))
	return max(effect, own), err
}

// scores compares other scores and gives the standard deviation of the difference.
func (g Gate) scores(one *lifecycle.CapabilityVerdict, clusters [][]float64) (float64, error) {
	limits, err := stats.ClusterLimits(clusters, Level)
	if err != nil {
		return 0, err
	}
	interval, err := stats.Bootstrap(clusters, Level, stats.Resampling{Rounds: g.Policy.Resamples, Seed: g.Policy.Seed})
	if err != nil {
		return 0, err
	}
	one.Low, one.High = min(limits.Low, interval.Low), max(limits.High, interval.High)
	one.PRegress = limits.PDrop
	return (limits.High - limits.Mean) / quantile(1-Level), nil
}

// decide gives one capability's outcome. A proven drop that is also proven to lie inside the margin passes.
func decide(one *lifecycle.CapabilityVerdict, detail *CapabilityReport, drop bool) {
	if one.Outcome != "" {
		return
	}
	difference := one.Candidate - one.Baseline
	inside := one.Low > -one.Margin
	switch {
	case inside && drop:
		one.Outcome = lifecycle.PassOutcome
		one.Reason = fmt.Sprintf("it dropped by %.4g, provenly by less than the margin %.4g", -difference, one.Margin)
	case inside:
		one.Outcome = lifecycle.PassOutcome
		one.Reason = fmt.Sprintf("changed by %+.4g; a drop is at most %.4g, the margin is %.4g", difference, max(0, -one.Low), one.Margin)
	case drop:
		one.Outcome = lifecycle.RegressOutcome
		one.Reason = fmt.Sprintf("it dropped by %.4g (p %.2g), and the drop may reach %.4g; the margin is %.4g", -difference, one.PRegress, -one.Low, one.Margin)
	default:
		one.Outcome = lifecycle.UnderpoweredOutcome
		one.Reason = fmt.Sprintf("changed by %+.4g; the drop may reach %.4g and the margin is %.4g; about %d cases would tell",
			difference, -one.Low, one.Margin, detail.ItemsNeeded)
	}
}

// conclude gives the gate's outcome: error, then regress, then pass if all pass, else underpowered.
func conclude(v *lifecycle.Verdict) {
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

// changed gives the cases whose score changed most, drops first among equals.
func changed(pairs []pair) []Change {
	moved := slices.DeleteFunc(slices.Clone(pairs), func(p pair) bool { return p.difference() == 0 })
	slices.SortStableFunc(moved, func(a, b pair) int {
		x, y := math.Abs(a.difference()), math.Abs(b.difference())
		switch {
		case x > y, x == y && a.difference() < b.difference():
			return -1
		case x < y, x == y && a.difference() > b.difference():
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	list := []Change{}
	for _, p := range moved[:min(len(moved), 10)] {
		list = append(list, Change{
			Case: p.ID, Text: p.Text, Want: p.Want, Baseline: p.baseline.Score, Candidate: p.candidate.Score,
			BaselineSaid: p.baseline.Said, CandidateSaid: p.candidate.Said,
		})
	}
	return list
}
