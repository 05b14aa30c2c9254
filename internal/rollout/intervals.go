package rollout

import (
	"math"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

// watchOdds begins the two e-processes whose rejected odds ratios are an interval's ends, each with the ratio that the
// decision rests on.
func watchOdds(harm, harmLevel, safe, safeLevel float64) (*stats.LowerOdds, *stats.UpperOdds, error) {
	lower, err := stats.NewLowerOdds(harm, harmLevel)
	if err != nil {
		return nil, nil, lifecycle.Errorf(lifecycle.Invalid, "a ratio that is tolerated: %w", err)
	}
	upper, err := stats.NewUpperOdds(safe, safeLevel)
	if err != nil {
		return nil, nil, lifecycle.Errorf(lifecycle.Invalid, "a margin: %w", err)
	}
	return lower, upper, nil
}

func between(lower *stats.LowerOdds, upper *stats.UpperOdds, low, high float64) lifecycle.Interval {
	out := lifecycle.Interval{Low: lower.Limit(), High: upper.Limit(), LowLevel: low, HighLevel: high}
	if math.IsInf(out.High, 1) {
		out.High = 0 // JSON has no infinity
	}
	return out
}

// side is what one side served in a step.
type side struct{ conversations, events int64 }

func (s *side) count(had bool) {
	s.conversations++
	if had {
		s.events++
	}
}

// rate gives the interval of the part of its conversations that have an event.
func (s *side) rate(level float64) (lifecycle.Interval, error) {
	low, high, err := stats.RateLimits(s.events, s.conversations, level)
	if err != nil {
		return lifecycle.Interval{}, lifecycle.Errorf(lifecycle.Invalid, "a rate of events: %w", err)
	}
	return lifecycle.Interval{Low: low, High: high, LowLevel: level, HighLevel: level}, nil
}

// differenceBetween gives the mean differences of scores that the bets of weighScores do not reject: under the low end the
// proof that it is safe would stand now, over the high one harm was found once. Bets against a bar win less the higher it is.
func differenceBetween(differences []float64, low, high float64) lifecycle.Interval {
	bets := func(bar, sign float64) (all stats.Above) {
		for _, d := range differences {
			_ = all.Observe((1+sign*d)/2, bar) // both were observed before
		}
		return all
	}
	safe := func(mean float64) bool {
		all := bets((1+mean)/2, 1)
		return all.Log() > stats.LogLevel(low)
	}
	harmful := func(mean float64) bool {
		all := bets((1-mean)/2, -1)
		return all.Peak() > stats.LogLevel(high)
	}
	return lifecycle.Interval{Low: edge(-1, 1, safe), High: edge(1, -1, harmful), LowLevel: low, HighLevel: high}
}

// edge gives the last mean on the way from one end to the other at which outside holds, to a ten thousandth, on the safe side.
func edge(from, to float64, outside func(float64) bool) float64 {
	for range 15 {
		if middle := (from + to) / 2; outside(middle) {
			from = middle
		} else {
			to = middle
		}
	}
	return from
}
