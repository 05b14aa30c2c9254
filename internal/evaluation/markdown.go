package evaluation

import (
	"fmt"
	"math"
	"strings"
	"unicode"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Markdown gives the report for people.
func (r Report) Markdown() string {
	var out strings.Builder
	v := r.Verdict
	fmt.Fprintf(&out, "# Gate: %s\n\n", v.Outcome)
	fmt.Fprintf(&out, "Service %s, candidate %s, baseline %s, suite %s, attempt %d.\n\n", cell(v.Service), or(v.Candidate), or(v.Baseline), or(v.Suite), v.Attempt)
	for _, reason := range v.Reasons {
		fmt.Fprintf(&out, "- %s\n", cell(reason))
	}
	r.results(&out)
	if v.Baseline != "" && len(r.Capabilities) > 0 {
		r.others(&out)
		r.drawn(&out)
		r.seen(&out)
	}
	r.agreements(&out)
	r.compared(&out)
	r.flaky(&out)
	for _, c := range r.Capabilities {
		c.changes(&out)
	}
	return out.String()
}

// results is a table with a row a capability.
func (r Report) results(out *strings.Builder) {
	v := r.Verdict
	if len(v.Capabilities) == 0 {
		return
	}
	out.WriteString("\n| capability | metric | cases | groups | baseline | candidate | change | limits, each 95% | margin | verdict |\n")
	out.WriteString("|---|---|--:|--:|--:|--:|--:|---|--:|---|\n")
	for i, c := range v.Capabilities {
		metric, sign := c.Metric, 1.0
		if score.Less(c.Metric) {
			metric, sign = c.Metric+" (less is better)", -1
		}
		baseline, change, limits, outcome := "-", "-", "-", string(c.Outcome)
		if v.Baseline != "" {
			baseline = fmt.Sprintf("%.4f", sign*c.Baseline)
			change = fmt.Sprintf("%+.4f", sign*(c.Candidate-c.Baseline))
			limits = limitsOf(c, sign)
			if r.Capabilities[i].ProvenDrop && c.Outcome == lifecycle.PassOutcome {
				outcome += ", with a proven drop inside the margin"
			}
		}
		fmt.Fprintf(out, "| %s | %s | %d | %d | %s | %.4f | %s | %s | %.4f | %s |\n",
			cell(c.Capability), cell(metric), c.Items, c.Clusters, baseline, sign*c.Candidate, change, limits, c.Margin, outcome)
	}
}

func limitsOf(c lifecycle.CapabilityVerdict, sign float64) string {
	if c.Low <= -math.MaxFloat64 || c.High >= math.MaxFloat64 {
		return "not known"
	}
	low, high := sign*c.Low, sign*c.High
	return fmt.Sprintf("%+.4f to %+.4f", min(low, high), max(low, high))
}

// others gives the reasons of capabilities that did not decide.
func (r Report) others(out *strings.Builder) {
	wrote := false
	for _, c := range r.Verdict.Capabilities {
		if c.Outcome == r.Verdict.Outcome {
			continue
		}
		if !wrote {
			out.WriteString("\nThe others:\n\n")
			wrote = true
		}
		fmt.Fprintf(out, "- %s: %s: %s\n", cell(c.Capability), c.Outcome, cell(c.Reason))
	}
}

// drawn draws the intervals.
func (r Report) drawn(out *strings.Builder) {
	width := 0
	for _, c := range r.Verdict.Capabilities {
		width = max(width, min(len([]rune(line(c.Capability))), 40))
	}
	out.WriteString("\nThe change o between its limits, larger is better; ! is the margin: pass begins right of it. Each on a scale of its own.\n\n```text\n")
	for _, c := range r.Verdict.Capabilities {
		name := []rune(line(c.Capability))
		fmt.Fprintf(out, "%-*s  %s\n", width, string(name[:min(len(name), width)]), bar(c))
	}
	out.WriteString("```\n")
}

// bar draws one capability's interval: the scale ends a little beyond what it shows.
func bar(c lifecycle.CapabilityVerdict) string {
	const columns = 61
	if limitsOf(c, 1) == "not known" {
		return "(not known)"
	}
	reach := 1.1 * max(c.Margin, math.Abs(c.Low), math.Abs(c.High))
	place := func(x float64) int {
		return min(max(int(math.Round((x+reach)/(2*reach)*(columns-1))), 0), columns-1)
	}
	row := []byte(strings.Repeat(".", columns))
	for i := place(c.Low); i <= place(c.High); i++ {
		row[i] = '='
	}
	row[place(0)] = '|'
	row[place(c.Low)], row[place(c.High)] = '[', ']'
	row[place(-c.Margin)] = '!'
	row[place(c.Candidate-c.Baseline)] = 'o'
	return fmt.Sprintf("%s  %+.3g to %+.3g", row, -reach, reach)
}

// seen says what the gate could see, and how far it may be trusted.
func (r Report) seen(out *strings.Builder) {
	out.WriteString("\n## What this gate could see\n\nNumbers hold in 8 of 10 tries.\n\n")
	out.WriteString("| capability | method | samples | design effect | smallest drop it could name | smallest margin it could clear | cases needed in each capability | chance of an unchanged candidate |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, c := range r.Capabilities {
		needed := "not known"
		if c.ItemsNeeded > 0 {
			needed = fmt.Sprint(c.ItemsNeeded)
		}
		fmt.Fprintf(out, "| %s | %s | %d | %.2f | %s | %s | %s | %.2f |\n", cell(c.Name), c.Method, c.Samples, c.DesignEffect,
			known(c.SmallestDrop), known(c.SmallestMargin), needed, c.ChanceUnchanged)
	}
	fmt.Fprintf(out, "\nA candidate as good as the baseline passes the whole gate with probability %.2f.\n", r.ChanceUnchanged)
	fmt.Fprintf(out, "\nThis is attempt %d against this baseline and suite. A candidate that is worse by a whole margin passes in 5%% of tries; ", max(1, r.Verdict.Attempt))
	if r.Verdict.Attempt > 1 {
		fmt.Fprintf(out, "of %d such tries one passes with a chance of about %.0f%%: trying until it passes is no proof.\n", r.Verdict.Attempt, 100*r.AttemptsError)
	} else {
		fmt.Fprintf(out, "trying five times makes it about %.0f%%.\n", 100*attemptsError(5))
	}
}

// agreements says how far scorers agree with people.
func (r Report) agreements(out *strings.Builder) {
	wrote := false
	for _, c := range r.Capabilities {
		a := c.Agreement
		if a == nil {
			continue
		}
		if !wrote {
			out.WriteString("\n## Agreement with people\n\nOf scores with those that people gave to the same answers; limits at 95% each, labels of one group count as one in them.\n\n" +
				"| capability | labels | groups | without a score | measure | agreement | limits | equal scores | Kendall's tau | must reach |\n|---|--:|--:|--:|---|--:|---|---|---|---|\n")
			wrote = true
		}
		required := "-"
		if a.Required > 0 {
			required = fmt.Sprintf("%g with %d labels", a.Required, a.Wanted)
		}
		fmt.Fprintf(out, "| %s | %d | %d | %d | %s | %s | %s | %s | %s | %s |\n", cell(c.Name), a.Labels, a.Groups, a.Unscored, a.Measure,
			two(a.Of.Value), a.Of.limits(), a.Raw.whole(), a.Kendall.whole(), required)
	}
}

func two(n number) string {
	if !finite(float64(n)) {
		return "not known"
	}
	return fmt.Sprintf("%.2f", float64(n))
}

func (a agreed) limits() string {
	if !finite(float64(a.Low)) || !finite(float64(a.High)) {
		return "not known"
	}
	return two(a.Low) + " to " + two(a.High)
}

// whole gives a measure with its limits; a dash where it was not taken.
func (a *agreed) whole() string {
	if a == nil {
		return "-"
	}
	return two(a.Value) + " (" + a.limits() + ")"
}

// compared says what judges made of pairs of answers, and how far they can be relied on.
func (r Report) compared(out *strings.Builder) {
	for _, c := range r.Capabilities {
		p := c.Pairwise
		if p == nil || p.Pairs == 0 {
			continue
		}
		fmt.Fprintf(out, "\n## How answers were compared in %s\n\n| pairs | the same text, not asked | candidate preferred | baseline preferred | tie | mind changed with the order |\n|--:|--:|--:|--:|--:|--:|\n", cell(c.Name))
		fmt.Fprintf(out, "| %d | %d | %d | %d | %d | %d |\n", p.Pairs, p.Same, p.Candidate, p.Baseline, p.Ties, p.Changed)
		if p.asked() > 0 {
			fmt.Fprintf(out, "\nThe judge's inconsistency: of %d pairs that it was asked about in both orders it changed its mind in %.1f%%: %d times it took whichever answer came first, %d times the second. Each counts as a tie.\n",
				p.asked(), 100*float64(p.Changed)/float64(p.asked()), p.First, p.Second)
		}
	}
}

// flaky names the cases that a release answers now so and now so.
func (r Report) flaky(out *strings.Builder) {
	for _, c := range r.Capabilities {
		if c.FlakyCandidate+c.FlakyBaseline == 0 {
			continue
		}
		fmt.Fprintf(out, "\n## Flaky in %s\n\nAsked %d times, the candidate answers %d cases differently from time to time, the baseline %d. A case counts with its mean score.\n\n",
			cell(c.Name), c.Samples, c.FlakyCandidate, c.FlakyBaseline)
		out.WriteString("| case | side | mean | lowest | highest |\n|---|---|--:|--:|--:|\n")
		for _, f := range c.Flaky {
			fmt.Fprintf(out, "| %s | %s | %.4g | %.4g | %.4g |\n", cell(f.Case), f.Side, f.Mean, f.Lowest, f.Highest)
		}
	}
}

// changes shows the cases that changed most, with both answers side by side.
func (c CapabilityReport) changes(out *strings.Builder) {
	if len(c.Changed) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## What changed most in %s\n\n| case | asked | right | baseline | candidate |\n|---|---|---|---|---|\n", cell(c.Name))
	sign := 1.0
	if score.Less(c.Metric) {
		sign = -1
	}
	for _, ch := range c.Changed {
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", cell(ch.Case), cell(ch.Text), cell(ch.Want),
			cell(said(ch.BaselineSaid, sign*ch.Baseline)), cell(said(ch.CandidateSaid, sign*ch.Candidate)))
	}
}

func said(word string, score float64) string {
	if word == "" {
		return fmt.Sprintf("%.4g", score)
	}
	return fmt.Sprintf("%s (%.4g)", word, score)
}

func known(n number) string {
	if !finite(float64(n)) {
		return "not known"
	}
	return fmt.Sprintf("%.4f", float64(n))
}

// line makes one line of a text: what would break it, or show it in another order than it is written, becomes a space.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '`' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// cell keeps text inside its table cell, and text: answers are untrusted, and whoever reads the report follows no link
// and sees no picture of theirs.
func cell(s string) string {
	var out strings.Builder
	for _, r := range line(s) {
		if strings.ContainsRune("&<>|\\*_[]!#~$@", r) {
			fmt.Fprintf(&out, "&#%d;", r)
			continue
		}
		out.WriteRune(r)
	}
	// A bare address becomes a link by itself.
	return strings.NewReplacer("://", "&#58;//", "www.", "www&#46;").Replace(out.String())
}
