package evaluation

import (
	"context"
	"sync"

	"github.com/refitml/refit/internal/lifecycle"
)

// Asking says how a whole suite is put to a release. The zero value works.
type Asking struct {
	Parallel int               // cases at once; default 4
	Have     map[string]Answer // answers from before, by case; they are not asked for again
	Answered func(Answer)      // called with each new answer, one call at a time; nil for none
}

// AskAll puts every case of a suite and gives the answers in the suite's order. At the first case that
// could not be put it stops and gives that error with the answers so far: they may be handed in again as Have.
func AskAll(ctx context.Context, s Suite, model Completer, search Searcher, how Asking) ([]Answer, error) {
	setDefault(&how.Parallel, 4)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	kinds := map[string]string{}
	for _, c := range s.Capabilities {
		kinds[c.Name] = c.Kind
	}
	got := make([]*Answer, len(s.Cases))
	next := make(chan int)
	var mutex sync.Mutex // of Answered
	var workers sync.WaitGroup
	for range min(how.Parallel, len(s.Cases)) {
		workers.Go(func() {
			for i := range next {
				a, err := Ask(ctx, kinds[s.Cases[i].Capability], s.Cases[i], model, search)
				if err != nil {
					stop(err)
					continue
				}
				got[i] = &a
				if how.Answered != nil {
					mutex.Lock()
					how.Answered(a)
					mutex.Unlock()
				}
			}
		})
	}
feed:
	for i, c := range s.Cases {
		if have, ok := how.Have[c.ID]; ok {
			got[i] = &have
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
	var answers []Answer
	for _, a := range got {
		if a != nil {
			answers = append(answers, *a)
		}
	}
	if err := context.Cause(ctx); err != nil {
		return answers, lifecycle.Wrap(err, "answer %d of %d cases", len(answers), len(s.Cases))
	}
	return answers, nil
}
