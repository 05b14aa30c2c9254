package lifecycle

import (
	"fmt"
	"slices"
)

// Interval is what a confidence sequence says of a number now. Over all looks that there ever are the number is over
// Low but for a chance of LowLevel, and under High but for a chance of HighLevel. The zero value says nothing.
type Interval struct {
	Low       float64 `json:"low"`            // 0: nothing is too small
	High      float64 `json:"high,omitempty"` // 0: nothing is too large
	LowLevel  float64 `json:"low_level"`
	HighLevel float64 `json:"high_level"`
}

// Known says whether the interval was made at all; verdicts of older releases have none.
func (i Interval) Known() bool { return i != Interval{} }

// String gives the limits as plain numbers: "0.42 to 1.9", "over 2.1", "under 1.9", "anything".
func (i Interval) String() string { return i.text(1, 0, "") }

// Percent gives the limits of a rate: "0.3% to 4.1%".
func (i Interval) Percent() string { return i.text(100, 1, "%") }

// text writes the limits times a scale; none is the high limit that says nothing.
func (i Interval) text(scale, none float64, unit string) string {
	low, high := fmt.Sprintf("%.3g%s", i.Low*scale, unit), fmt.Sprintf("%.3g%s", i.High*scale, unit)
	switch bounded := i.High != 0 && i.High != none; {
	case i.Low > 0 && bounded:
		return low + " to " + high
	case i.Low > 0:
		return "over " + low
	case bounded:
		return "under " + high
	}
	return "anything"
}

// Line says between which limits the metric is, and what they are held against.
func (m MetricVerdict) Line() string {
	line := fmt.Sprintf("%s: the canary's risk is %s times stable's (harm from %.3g, safe to %.3g)", m.Metric, m.Ratio, m.Tolerated, m.Margin)
	line += "; its rate is " + m.CanaryRate.Percent()
	if m.Floor > 0 {
		line += fmt.Sprintf(" (safe to %.3g%%)", m.Floor*100)
	}
	return line + ", stable's " + m.StableRate.Percent()
}

// Lines gives the verdict's intervals, one a line; none where it has none.
func (v StepVerdict) Lines() []string {
	var out []string
	for _, m := range v.Metrics {
		if m.Ratio.Known() {
			out = append(out, m.Line())
		}
	}
	if v.Odds.Known() {
		out = append(out, fmt.Sprintf("share: the odds to be served the canary are %s times those allowed (too many from 1)", v.Odds))
	}
	return out
}

// Lines gives the verdict's intervals, one a line: of each metric how much oftener the candidate had its event, among the
// pairs in which exactly one side had it.
func (v ShadowVerdict) Lines() []string {
	var out []string
	if v.Between.Known() {
		out = append(out, fmt.Sprintf("score: the candidate's less stable's is %+.3g to %+.3g in the mean", v.Between.Low, v.Between.High))
	}
	for _, m := range v.Metrics {
		if m.Ratio.Known() {
			out = append(out, fmt.Sprintf("%s: in pairs in which one side had it, the candidate did %s times as often as stable (harm from %.3g)", m.Metric, m.Ratio, m.Tolerated))
		}
	}
	return out
}

// Brief gives the verdict without its intervals, for where many of them have to fit.
func (v StepVerdict) Brief() StepVerdict {
	v.Odds = Interval{}
	v.Metrics = slices.Clone(v.Metrics)
	for i := range v.Metrics {
		m := &v.Metrics[i]
		m.Ratio, m.CanaryRate, m.StableRate = Interval{}, Interval{}, Interval{}
		m.Tolerated, m.Margin, m.Floor = 0, 0, 0
	}
	return v
}
