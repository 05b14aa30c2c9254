package evaluation

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkJudge judges 100,000 cases in two capabilities, half right or wrong and half other scores.
func BenchmarkJudge(b *testing.B) {
	g := draw(rand.New(rand.NewPCG(1, 2)),
		trial{kind: Cloze, items: 50_000, perGroup: 5, baseline: 0.5, flips: 0.2, within: 0.2, margin: 0.02},
		trial{kind: BitsPerByte, items: 50_000, perGroup: 5, baseline: -2, flips: 0.2, within: 0.2, margin: 0.02})
	g.Policy.Resamples = 0
	for b.Loop() {
		if v, _ := Judge(g); v.Outcome == "" {
			b.Fatal("no verdict")
		}
	}
}
