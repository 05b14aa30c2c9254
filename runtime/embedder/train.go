package embedder

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/refitml/refit/runtime/internal/vec"
	"github.com/refitml/refit/runtime/text"
)

// begin makes the vocabulary of documents and a table of random rows, rarer words longer: the more documents a word
// stands in, the less it tells.
func begin(documents []text.Document, s Spec) *Model {
	counts := map[string]int{}
	for _, d := range documents {
		seen := map[string]bool{}
		words(d.Rendered(), func(w string) {
			if !seen[w] {
				seen[w] = true
				counts[w]++
			}
		})
	}
	var list []string
	for w, n := range counts {
		if n >= s.MinCount {
			list = append(list, w)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	list = list[:min(len(list), s.MaxWords)]
	slices.Sort(list)
	m := &Model{words: list, vocabulary: newVocabulary(list, s.Buckets), dimension: s.Dimension}
	m.table = make([]float32, m.vocabulary.size()*s.Dimension)
	rng := rand.New(rand.NewPCG(s.Seed, 1))
	for i := range m.vocabulary.size() {
		n := 1
		if i < len(list) {
			n = counts[list[i]]
		}
		scale := math.Sqrt(math.Log(float64(len(documents)+1)/float64(n)) / float64(s.Dimension))
		for j := range s.Dimension {
			m.table[i*s.Dimension+j] = float32(rng.NormFloat64() * scale)
		}
	}
	return m
}

// example is a pair as features.
type example struct{ question, answer, whole []feature }

func (m *Model) examples(documents []text.Document) []example {
	var list []example
	for _, d := range documents {
		p, ok := pairOf(d)
		if !ok {
			continue
		}
		var e example
		e.question, _ = m.vocabulary.features(p.question)
		e.answer, _ = m.vocabulary.features(p.answer)
		e.whole, _ = m.vocabulary.features(p.whole)
		if len(e.question) > 0 && len(e.answer) > 0 {
			list = append(list, e)
		}
	}
	return list
}

// wholeEvery says in how many epochs a pair's answer once holds its question too.
const wholeEvery = 4

// trainer holds the state of one training.
type trainer struct {
	model    *Model
	spec     Spec
	examples []example
	squares  []float32 // of a row's gradients, added up: Adagrad
	space
}

type space struct {
	questions, answers             []float32 // [batch, dimension], of length 1
	questionLengths, answerLengths []float32 // before that
	towardsQ, towardsA             []float32 // gradients of them
	cosines, pull                  []float32 // [batch, batch]
	chances                        []float64 // of one row
	gradient                       []float32 // of the table; zero but for touched rows
	touched                        []int32
	isTouched                      []bool
}

func newTrainer(m *Model, s Spec, examples []example) *trainer {
	n := min(s.Batch, len(examples))
	side := func() []float32 { return make([]float32, n*s.Dimension) }
	return &trainer{model: m, spec: s, examples: examples, squares: make([]float32, m.vocabulary.size()), space: space{
		questions: side(), answers: side(), towardsQ: side(), towardsA: side(),
		questionLengths: make([]float32, n), answerLengths: make([]float32, n),
		cosines: make([]float32, n*n), pull: make([]float32, n*n), chances: make([]float64, n),
		gradient: make([]float32, len(m.table)), isTouched: make([]bool, m.vocabulary.size()),
	}}
}

// steps is how many batches there are in all. The pairs that fill no batch are left out of an epoch; others are
// in the next.
func (t *trainer) steps() int {
	if len(t.examples) < 2 {
		return 0
	}
	return t.spec.Epochs * (len(t.examples) / len(t.chances))
}

// run trains; report is called after each step with its mean loss in nats. Its error, or that ctx is done, ends it.
func (t *trainer) run(ctx context.Context, report func(step int, loss float64) error) error {
	total, n := t.steps(), len(t.chances)
	if total == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(t.spec.Seed, 2))
	questions, answers := make([][]feature, n), make([][]feature, n)
	for step := 1; step <= total; {
		epoch := (step - 1) / (len(t.examples) / n)
		order := rng.Perm(len(t.examples))
		for ; len(order) >= n; order = order[n:] {
			if err := ctx.Err(); err != nil {
				return err
			}
			for i, at := range order[:n] {
				questions[i], answers[i] = t.examples[at].question, t.examples[at].answer
				if (at+epoch)%wholeEvery == 0 {
					answers[i] = t.examples[at].whole
				}
			}
			rate := t.spec.LearningRate * max(0.05, 1-float64(step)/float64(total))
			if err := report(step, t.step(questions, answers, float32(rate))); err != nil {
				return err
			}
			step++
		}
	}
	return nil
}

// step learns from one batch and returns its loss before that.
func (t *trainer) step(questions, answers [][]feature, rate float32) float64 {
	t.embed(t.questions, t.questionLengths, questions)
	t.embed(t.answers, t.answerLengths, answers)
	n, dimension := len(questions), t.model.dimension
	vec.Multiply(t.cosines, t.questions, n, t.answers, n, dimension, dimension)
	loss := t.contrast()
	clear(t.towardsQ)
	clear(t.towardsA)
	for i := range n {
		for j := range n {
			pull := t.pull[i*n+j]
			vec.AddScaled(t.towardsQ[i*dimension:][:dimension], t.answers[j*dimension:][:dimension], pull)
			vec.AddScaled(t.towardsA[j*dimension:][:dimension], t.questions[i*dimension:][:dimension], pull)
		}
	}
	for i := range n {
		t.gather(questions[i], t.towardsQ[i*dimension:][:dimension], t.questions[i*dimension:][:dimension], t.questionLengths[i])
		t.gather(answers[i], t.towardsA[i*dimension:][:dimension], t.answers[i*dimension:][:dimension], t.answerLengths[i])
	}
	t.descend(rate)
	return loss
}

func (t *trainer) embed(to, lengths []float32, texts [][]feature) {
	clear(to)
	for i, list := range texts {
		row := to[i*t.model.dimension:][:t.model.dimension]
		t.model.sum(row, list)
		lengths[i] = normalise(row)
	}
}

// contrast gives the mean loss of naming each question's answer and each answer's question among those of the batch,
// and puts its gradients in the cosines into pull.
func (t *trainer) contrast() float64 {
	n := len(t.chances)
	clear(t.pull)
	loss := 0.0
	for i := range n {
		loss += t.name(i, func(j int) int { return i*n + j })
		loss += t.name(i, func(j int) int { return j*n + i })
	}
	return loss / float64(2*n)
}

// name adds the part of one question or answer, whose cosines lie at at(0), at(1), ...; the right one is i.
func (t *trainer) name(i int, at func(int) int) float64 {
	n, sum := len(t.chances), 0.0
	for j := range n { // a cosine is at most 1, so nothing overflows
		t.chances[j] = math.Exp(float64(t.cosines[at(j)]-1) / t.spec.Temperature)
		sum += t.chances[j]
	}
	scale := 1 / (t.spec.Temperature * float64(2*n))
	for j := range n {
		t.pull[at(j)] += float32(t.chances[j] / sum * scale)
	}
	t.pull[at(i)] -= float32(scale)
	return -math.Log(max(t.chances[i]/sum, math.SmallestNonzeroFloat64))
}

// gather adds the gradients of the rows that a text is made of. gradient is in the unit vector and is overwritten.
func (t *trainer) gather(list []feature, gradient, unit []float32, length float32) {
	if length == 0 {
		return
	}
	// What points along the vector changes its length only, which normalising takes away again.
	vec.AddScaled(gradient, unit, -vec.Dot(gradient, unit))
	for _, f := range list {
		if !t.isTouched[f.row] {
			t.isTouched[f.row] = true
			t.touched = append(t.touched, f.row)
		}
		vec.AddScaled(t.gradient[int(f.row)*len(unit):][:len(unit)], gradient, f.weight/length)
	}
}

// descend moves the touched rows and forgets their gradients.
func (t *trainer) descend(rate float32) {
	dimension := t.model.dimension
	for _, row := range t.touched {
		g := t.gradient[int(row)*dimension:][:dimension]
		t.squares[row] += vec.Dot(g, g) / float32(dimension)
		if t.squares[row] > 0 {
			vec.AddScaled(t.model.row(row), g, -rate/float32(math.Sqrt(float64(t.squares[row]))))
		}
		clear(g)
		t.isTouched[row] = false
	}
	t.touched = t.touched[:0]
}
