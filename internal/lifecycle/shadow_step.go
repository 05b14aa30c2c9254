package lifecycle

import (
	"encoding/json"
	"slices"
	"time"
)

// ShadowStep is a rollout's step before its first share: the candidate gets copies of users' requests, and nobody is
// shown what it says to them. Pairs of stable's answer and the candidate's are scored and held against each other.
type ShadowStep struct {
	Share     BasisPoints `json:"share_bp,omitempty" jsonschema:"description=of requests that are copied: 1 to 10000 basis points; default 10000 (all within the budget below)"`
	MinPairs  int64       `json:"min_pairs,omitempty" jsonschema:"description=conversations with a pair of answers before the step may end; scored ones where there is a scorer; default 100"`
	MaxTime   Duration    `json:"max_time,omitempty" jsonschema:"description=default 24h"`
	Scorer    *PairScorer `json:"scorer,omitempty" jsonschema:"description=how a pair is scored; left out: only errors and guardrails and refusals and slow answers are watched"`
	Required  bool        `json:"required,omitempty" jsonschema:"description=the step ends well only when it is proven that the candidate scores lower by less than margin"`
	Tolerated float64     `json:"tolerated,omitempty" jsonschema:"description=mean drop of the score that is no harm yet: 0 to under 1; default 0"`
	Margin    float64     `json:"margin,omitempty" jsonschema:"description=mean drop that required must prove the candidate to be under; default 0.1"`
	Weight    float64     `json:"weight,omitempty" jsonschema:"description=share of the rollout's false-alarm level beside the metrics' weights; default 1"`
	AtOnce    int         `json:"at_once,omitempty" jsonschema:"description=copies under way at one gateway at most; default 2"`
	PerMinute int         `json:"per_minute,omitempty" jsonschema:"description=copies that one gateway begins in a minute at most; default 60"`
	Deadline  Duration    `json:"deadline,omitempty" jsonschema:"description=that one copy may take; one that takes longer failed; default 30s"`
	Shared    bool        `json:"shared_servers,omitempty" jsonschema:"description=copies may take free places on model servers that users' answers come from\\, too: what a candidate needs that has stable's weights"`
}

// PairScorer names a scorer of suites, with its settings, that scores an answer between 0 and 1.
type PairScorer struct {
	Name     string          `json:"name" jsonschema:"enum=judge-pairwise,enum=judge-rubric,enum=command,enum=safe,enum=json-schema,enum=regex,enum=exact,enum=normalised,enum=token-f1,enum=rouge-l,enum=chrf,description=judge-pairwise compares the two answers; exact and normalised and token-f1 and rouge-l and chrf score how like stable's answer the candidate's is; the others score both answers"`
	Settings json.RawMessage `json:"settings,omitempty" jsonschema:"description=the scorer's own; see docs/suites.md"`
}

// PairScorers lists the scorers that pairs may be scored by. Others look at what is not kept of a request, or their
// scores have no bounds.
func PairScorers() []string {
	return []string{"judge-pairwise", "judge-rubric", "command", "safe", "json-schema", "regex", "exact", "normalised", "token-f1", "rouge-l", "chrf"}
}

// ScoreMetric is what verdicts call the score of pairs.
const ScoreMetric = "score"

// PairMetrics lists the rollout's metrics that answers show without anybody having read them.
func PairMetrics() []string { return []string{"errors", "guardrails", "refusals", "slow"} }

// WithDefaults fills in what is 0.
func (s ShadowStep) WithDefaults() ShadowStep {
	setDefault(&s.Share, Whole)
	setDefault(&s.MinPairs, 100)
	setDefault(&s.MaxTime, Duration(24*time.Hour))
	setDefault(&s.Margin, 0.1)
	setDefault(&s.Weight, 1)
	setDefault(&s.AtOnce, 2)
	setDefault(&s.PerMinute, 60)
	setDefault(&s.Deadline, Duration(30*time.Second))
	return s
}

// Copies is how a release gets copies of requests in this step.
func (s ShadowStep) Copies(release Digest, share BasisPoints) Shadow {
	return Shadow{Release: release, Share: share, AtOnce: s.AtOnce, PerMinute: s.PerMinute, Deadline: s.Deadline}
}

// Watched names what the shadow step may stop the rollout for: the score, where there is one, and those of the rollout's
// metrics that answers show by themselves.
func (p RolloutPolicy) Watched() []string {
	if p.Shadow == nil {
		return nil
	}
	var all []string
	if p.Shadow.Scorer != nil {
		all = append(all, ScoreMetric)
	}
	for _, m := range p.Metrics {
		if slices.Contains(PairMetrics(), m.Name) {
			all = append(all, m.Name)
		}
	}
	return all
}

// Weights is the sum of all weights that the level for rolling back is shared by.
func (p RolloutPolicy) Weights() (sum float64) {
	for _, m := range p.Metrics {
		sum += m.Weight
	}
	if p.Shadow != nil {
		sum += p.Shadow.Weight
	}
	return sum
}

func (p RolloutPolicy) checkShadow(faults *Problems, capture CapturePolicy) {
	if p.Shadow == nil {
		return
	}
	s, at := *p.Shadow, "rollout.shadow"
	if s.MinPairs < 1 {
		faults.Add(at+".min_pairs", itoa(int(s.MinPairs)), "give at least 1; no step passes on the clock alone")
	}
	if s.MaxTime <= 0 {
		faults.Add(at+".max_time", s.MaxTime.String(), "give more than 0")
	}
	if !(s.Tolerated >= 0 && s.Tolerated < 1) || !(s.Margin > 0 && s.Margin < 1) || s.Margin < s.Tolerated {
		faults.Add(at, "tolerated "+ftoa(s.Tolerated)+", margin "+ftoa(s.Margin), "give tolerated from 0 and a margin over 0 that is not under it, both under 1")
	}
	if !(s.Weight > 0) {
		faults.Add(at+".weight", ftoa(s.Weight), "give a weight over 0")
	}
	if len(p.Watched()) == 0 {
		faults.Add(at, "nothing to watch", "give a scorer, or one of %v among rollout.metrics", PairMetrics())
	}
	checkCopies(faults, at, s.Copies("", s.Share))
	switch {
	case s.Scorer == nil && s.Required:
		faults.Add(at+".required", "without a scorer", "give a scorer, which is what is proven by")
	case s.Scorer != nil && !slices.Contains(PairScorers(), s.Scorer.Name):
		faults.Add(at+".scorer.name", quote(s.Scorer.Name), "give one of %v", PairScorers())
	case s.Scorer != nil && capture.Content != "full":
		faults.Add(at+".scorer", "without answers to score", "give capture.content: full; masked texts are scored as they are kept")
	}
}

// ShadowVerdict is what a shadow step comes to.
type ShadowVerdict struct {
	Decision   Decision        `json:"decision"`
	Reason     string          `json:"reason"`
	Pairs      int64           `json:"pairs"`            // conversations of which a pair of answers is known, the first of each
	Scored     int64           `json:"scored"`           // of them, with a score; up to the first that waits for one
	Unkept     int64           `json:"unkept,omitempty"` // of them, whose texts were not kept and so have no score
	Difference float64         `json:"difference"`       // mean of the candidate's score less stable's, of scored pairs
	Metrics    []MetricVerdict `json:"metrics,omitempty"`

	// Between is of the mean difference, from -1 to 1. High is at or under the negative of the drop that is tolerated if and
	// only if the score is harmful, Low at or over the negative of the margin if and only if it is safe.
	Between Interval `json:"between,omitzero"`
}

// ShadowRecord is a rollout's shadow step as it went.
type ShadowRecord struct {
	Share     BasisPoints   `json:"share_bp"` // of requests that were copied at most
	Verdict   ShadowVerdict `json:"verdict"`
	StartedAt time.Time     `json:"started_at"`
	EndedAt   time.Time     `json:"ended_at,omitzero"`
}
