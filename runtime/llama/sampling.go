package llama

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how a token is drawn.
type Sampling struct {
	Temperature float64 // 0 takes the likeliest token; 1 draws as the model says
	TopP        float64 // draws among the likeliest tokens that together have this probability; over 0, 1 is all
	Seed        uint64  // the same seed and logits give the same tokens
}

// Sampler draws the tokens of one sequence. It belongs to one goroutine.
type Sampler struct {
	sampling Sampling
	rng      *rand.Rand
	heap     []weighted
}

type weighted struct {
	token  int
	weight float64 // relative to the likeliest token's
}

// NewSampler checks a sampling and makes a sampler.
func NewSampler(s Sampling) (*Sampler, error) {
	switch {
	case !(s.Temperature >= 0 && s.Temperature <= 100):
		return nil, fmt.Errorf("temperature %g: give 0 to 100", s.Temperature)
	case !(s.TopP > 0 && s.TopP <= 1):
		return nil, fmt.Errorf("top_p %g: give more than 0 and at most 1", s.TopP)
	}
	return &Sampler{sampling: s, rng: rand.New(rand.NewPCG(s.Seed, 0x5a3))}, nil
}

// Next draws a token. Equally likely ones are ordered by number.
func (s *Sampler) Next(logits []float32) int {
	likeliest := argmax(logits)
	if s.sampling.Temperature == 0 {
		return likeliest
	}
	s.heap = s.heap[:0]
	sum, most := 0.0, float64(logits[likeliest])
	for token, l := range logits {
		weight := math.Exp((float64(l) - most) / s.sampling.Temperature)
		s.heap = append(s.heap, weighted{token, weight})
		sum += weight
	}
	if s.sampling.TopP == 1 {
		return draw(s.heap, s.rng.Float64()*sum)
	}
	// The nucleus is mostly a few tokens: taking them off a heap costs less than sorting all.
	for i := len(s.heap)/2 - 1; i >= 0; i-- {
		sink(s.heap, i)
	}
	rest, kept := len(s.heap), 0.0
	for kept < s.sampling.TopP*sum && rest > 0 {
		rest--
		s.heap[0], s.heap[rest] = s.heap[rest], s.heap[0] // taken ones gather behind the heap
		kept += s.heap[rest].weight
		sink(s.heap[:rest], 0)
	}
	nucleus := s.heap[rest:]
	slices.Reverse(nucleus)
	return draw(nucleus, s.rng.Float64()*kept)
}

// draw takes the token at which the weights add up to more than at; rounding ends at the last with any weight.
func draw(from []weighted, at float64) int {
	last := from[0].token
	for _, c := range from {
		if c.weight > 0 {
			last = c.token
		}
		if at -= c.weight; at < 0 {
			return c.token
		}
	}
	return last
}

// sink restores the heap, likeliest on top, whose node i may be too small.
func sink(heap []weighted, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1].likelier(heap[child]) {
			child++
		}
		if heap[i].likelier(heap[child]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

func (w weighted) likelier(than weighted) bool {
	return w.weight > than.weight || w.weight == than.weight && w.token < than.token
}

// argmax gives the first of the largest.
func argmax(logits []float32) int {
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	return best
}

// LogSum is the logarithm of the sum of exponentials: a token's log probability is its logit less this.
func LogSum(logits []float32) float64 {
	most := float64(logits[argmax(logits)])
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l) - most)
	}
	return most + math.Log(sum)
}

// Candidate is a token that might come next.
type Candidate struct {
	Token   int
	Logprob float64 // natural logarithm of its probability
}

// Likeliest gives the n likeliest tokens with their log probabilities, likeliest first.
func Likeliest(logits []float32, n int) []Candidate {
	n = min(n, len(logits))
	if n <= 0 {
		return nil
	}
	best := make([]Candidate, 0, n+1) // with logits until the end
	for token, l := range logits {
		c := Candidate{token, float64(l)}
		if len(best) == n && byLikelihood(best[n-1], c) < 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, c, byLikelihood)
		best = slices.Insert(best, at, c)
		best = best[:min(n, len(best))]
	}
	total := LogSum(logits)
	for i := range best {
		best[i].Logprob -= total
	}
	return best
}

func byLikelihood(a, b Candidate) int {
	return cmp.Or(cmp.Compare(b.Logprob, a.Logprob), cmp.Compare(a.Token, b.Token))
}
