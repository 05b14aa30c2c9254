package score

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

type rankingSettings struct {
	K int `json:"k"` // documents that count, from the best; default 10
}

// MostFound bounds k, and so what a release is asked for.
const MostFound = 100

// Depth is how many documents the scorer looks at.
func Depth(spec Spec) (int, error) {
	var s rankingSettings
	if err := decode(spec.Settings, &s); err != nil {
		return 0, err
	}
	err := positive("k", &s.K, 10, MostFound)
	return s.K, err
}

// ranking makes a scorer of the grades of the first k documents and of all relevant documents' grades.
func ranking(metric string, value func(found, all []float64) float64) func(rankingSettings, World) (Scorer, error) {
	return func(s rankingSettings, _ World) (Scorer, error) {
		if err := positive("k", &s.K, 10, MostFound); err != nil {
			return Scorer{}, err
		}
		scorer := Scorer{Metric: at(metric, s.K)}.checked(func(item Item) error {
			_, err := relevant(item)
			return err
		})
		return scorer.scoring(func(item Item) (float64, error) {
			grades, err := relevant(item)
			if err != nil {
				return 0, err
			}
			var found []float64
			seen := map[string]bool{}
			for _, document := range item.Found {
				if !seen[document] && len(found) < s.K {
					found = append(found, grades[document])
				}
				seen[document] = true
			}
			return value(found, slices.Collect(maps.Values(grades))), nil
		}), nil
	}
}

// relevant gives the documents of a grade over 0; those that are only named have grade 1.
func relevant(item Item) (map[string]float64, error) {
	grades := map[string]float64{}
	for _, document := range item.Want {
		grades[document] = 1
	}
	for document, grade := range item.Relevant {
		if math.IsNaN(grade) || math.IsInf(grade, 0) {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "relevant: the grade of %q is no number", document)
		}
		delete(grades, document)
		if grade > 0 {
			grades[document] = grade
		}
	}
	if len(grades) == 0 {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "no document is relevant")
	}
	return grades, nil
}

func hit(s rankingSettings, w World) (Scorer, error) {
	return ranking("hit", func(found, _ []float64) float64 { return truth(first(found) > 0) })(s, w)
}

func recall(s rankingSettings, w World) (Scorer, error) {
	return ranking("recall", func(found, all []float64) float64 {
		n := 0.0
		for _, grade := range found {
			n += truth(grade > 0)
		}
		return n / float64(len(all))
	})(s, w)
}

func mrr(s rankingSettings, w World) (Scorer, error) {
	return ranking("mrr", func(found, _ []float64) float64 {
		if rank := first(found); rank > 0 {
			return 1 / float64(rank)
		}
		return 0
	})(s, w)
}

func ndcg(s rankingSettings, w World) (Scorer, error) {
	scored := func(found, all []float64) float64 {
		ideal := slices.SortedFunc(slices.Values(all), func(a, b float64) int { return cmp.Compare(b, a) })
		return gain(found) / gain(ideal[:min(len(ideal), s.depth())])
	}
	return ranking("ndcg", scored)(s, w)
}

func (s rankingSettings) depth() int { return cmp.Or(s.K, 10) }

// first is the rank of the first relevant document, 0 where there is none.
func first(found []float64) int {
	return slices.IndexFunc(found, func(grade float64) bool { return grade > 0 }) + 1
}

func gain(grades []float64) float64 {
	sum := 0.0
	for i, grade := range grades {
		sum += grade / math.Log2(float64(i)+2)
	}
	return sum
}
