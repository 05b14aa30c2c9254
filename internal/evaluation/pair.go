package evaluation

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Pair is what stable and a candidate said to one question of a user's.
type Pair struct{ Question, Stable, Candidate string }

// PairScorer scores pairs of answers.
type PairScorer struct {
	score func(context.Context, Pair) (stable, candidate float64, err error)
}

// Score gives both sides' scores, each between 0 and 1. What is not scored is an error, never a score.
func (s PairScorer) Score(ctx context.Context, p Pair) (stable, candidate float64, err error) {
	stable, candidate, err = s.score(ctx, p)
	if err == nil && !(stable >= 0 && stable <= 1 && candidate >= 0 && candidate <= 1) {
		err = lifecycle.Errorf(lifecycle.Invalid, "a pair is scored between 0 and 1")
	}
	if err != nil {
		return 0, 0, lifecycle.Wrap(err, "score a pair")
	}
	return stable, candidate, nil
}

// NewPairScorer makes one ready. judge-pairwise asks which answer is the better one, in both orders. A scorer that wants
// references has stable's answer as the only one, which scores 1 itself; others score both answers alike. Judges
// and commands have to be there: nobody waits for what the operator does not declare.
func NewPairScorer(declared lifecycle.PairScorer, world score.World) (PairScorer, error) {
	if !slices.Contains(lifecycle.PairScorers(), declared.Name) {
		return PairScorer{}, lifecycle.Errorf(lifecycle.Invalid, "scorer %q: give one of %v", declared.Name, lifecycle.PairScorers())
	}
	scorer, err := score.New(score.Spec{Name: declared.Name, Settings: declared.Settings}, world)
	if err == nil {
		err = declares(declared.Settings, world)
	}
	if err != nil {
		return PairScorer{}, lifecycle.Wrap(err, "rollout.shadow.scorer")
	}
	one := func(ctx context.Context, p Pair, said string, want ...string) (float64, error) {
		return scorer.Score(ctx, score.Item{Question: p.Question, Said: said, Want: want})
	}
	switch {
	case scorer.Pair != nil:
		return PairScorer{func(ctx context.Context, p Pair) (float64, float64, error) {
			preferred, err := scorer.Pair(ctx, p.Question, p.Candidate, p.Stable)
			return 1 - preferred.Score(), preferred.Score(), err
		}}, nil
	case declared.Name == "judge-pairwise":
		return PairScorer{func(ctx context.Context, p Pair) (float64, float64, error) {
			preferred, err := one(ctx, p, p.Candidate, p.Stable)
			return 1 - preferred, preferred, err
		}}, nil
	case scorer.Wants:
		return PairScorer{func(ctx context.Context, p Pair) (float64, float64, error) {
			like, err := one(ctx, p, p.Candidate, p.Stable)
			return 1, like, err
		}}, nil
	}
	return PairScorer{func(ctx context.Context, p Pair) (stable, candidate float64, err error) {
		if stable, err = one(ctx, p, p.Stable); err == nil {
			candidate, err = one(ctx, p, p.Candidate)
		}
		return stable, candidate, err
	}}, nil
}

// declares says whether whom settings name is there.
func declares(settings json.RawMessage, world score.World) error {
	var names struct{ Judge, Command string }
	if len(settings) == 0 || json.Unmarshal(settings, &names) != nil {
		return nil // the scorer has read them
	}
	if _, ok := world.Judges[names.Judge]; names.Judge != "" && !ok {
		return lifecycle.Errorf(lifecycle.Refused, "the operator of this worker declares no judge %q", names.Judge)
	}
	if _, ok := world.Commands[names.Command]; names.Command != "" && !ok {
		return lifecycle.Errorf(lifecycle.Refused, "the operator of this worker declares no command %q", names.Command)
	}
	return nil
}
