package evaluation

import (
	"context"
	"sync"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Asking says how a whole suite is put to a release. The zero value works for suites that need no more.
type Asking struct {
	Parallel int          // answers at once; default 4
	Have     []Answer     // answers from before; they are not asked for again
	Answered func(Answer) // called with each new answer, one call at a time; nil for none
	Speaker  Speaker      // answers in words; nil where the suite asks for none
	World    score.World  // whom scorers may ask
}

// AskAll puts every case of a suite, as often as its capability says, and gives the answers in the suite's order. Cases
// that no gate may ask are Invalid. At the first answer that could not be had it stops and gives that error with the answers
// so far: they may be handed in again as Have. What was answered and could not be scored, although who scores was there,
// comes back with its error, which makes the case an error for the gate.
func AskAll(ctx context.Context, s Suite, model Completer, search Searcher, how Asking) ([]Answer, error) {
	setDefault(&how.Parallel, 4)
	if err := s.forGates(); err != nil {
		return nil, err
	}
	asker, err := newAsker(s, model, search, how)
	if err != nil {
		return nil, err
	}
	questions := s.questions()
	got := make([]*Answer, len(questions))
	s.take(got, questions, how.Have)
	var one sync.Mutex // call of Answered at a time
	err = inParallel(ctx, len(questions), how.Parallel, func(i int) bool { return got[i] != nil }, func(ctx context.Context, i int) error {
		a, err := asker.ask(ctx, s.Cases[questions[i].at], questions[i].sample)
		if err != nil {
			return err
		}
		got[i] = &a
		if how.Answered != nil {
			one.Lock()
			defer one.Unlock()
			how.Answered(a)
		}
		return nil
	})
	answers := there(got)
	return answers, lifecycle.Wrap(err, "got %d of %d answers", len(answers), len(questions))
}

// inParallel does something for each of n, some at once, but for those that it may skip. At the first error it begins no
// more, and gives that error when what is under way has ended.
func inParallel(ctx context.Context, n, parallel int, skip func(i int) bool, do func(ctx context.Context, i int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(parallel, n) {
		workers.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					stop(err)
				}
			}
		})
	}
feed:
	for i := range n {
		if skip(i) {
			continue
		}
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

// there gives what is there, in order.
func there[T any](list []*T) (out []T) {
	for _, each := range list {
		if each != nil {
			out = append(out, *each)
		}
	}
	return out
}

// question is one case, by its place in the suite, asked for one time.
type question struct{ at, sample int }

// questions lists what the suite asks, sample after sample of each case.
func (s Suite) questions() []question {
	samples := map[string]int{}
	for _, c := range s.Capabilities {
		samples[c.Name] = c.Samples()
	}
	list := make([]question, 0, len(s.Cases))
	for i := range s.Cases {
		for sample := range samples[s.Cases[i].Capability] {
			list = append(list, question{i, sample})
		}
	}
	return list
}

// Questions is how many answers the suite asks for.
func (s Suite) Questions() int { return len(s.questions()) }

// take puts the answers that there are in their places.
func (s Suite) take(got []*Answer, questions []question, have []Answer) {
	if len(have) == 0 {
		return
	}
	at := make(map[place]int, len(questions))
	for i, q := range questions {
		at[place{s.Cases[q.at].ID, q.sample}] = i
	}
	for _, a := range have {
		if i, asked := at[place{a.Case, a.Sample}]; asked {
			got[i] = &a
		}
	}
}
