package e2e

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// A gate asks 600 cases in six batches. Its worker is killed in the third, and one with an empty data folder goes on:
// what was in a batch that had ended is asked of the model server once, whoever asks.
func TestAGateGoesOnAtAnotherWorkerWithoutAskingAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onSharedStack(t))
	servers := newModels(t)
	w.startConsole()
	w.worker.start()
	w.apply(fmt.Sprintf(`service: %s
serving: {engine: static, endpoints: [{url: %q, capacity: 8}]}
corpora: {base: {sources: [{kind: folder, path: %q}], held_out: 0.5}}
evaluation:
  capabilities: [{name: next-word, kind: next-token, corpus: base, items: 600, margin: 0.3}]
  batches_at_once: 1
`, w.service, servers.url, w.writeCorpus("notes", 1300, 5)))
	_, err := ended[any](w, w.startInUI("BuildDataset", map[string]string{"service": w.service, "corpus": "base"}))
	require.NoError(t, err)
	_, name := w.release("first")
	servers.know(name)

	asked := &askedOnce{times: map[string]int{}, stopAt: 250, reached: make(chan struct{}), killed: make(chan struct{})}
	servers.mu.Lock()
	servers.before = asked.note
	servers.mu.Unlock()
	var run started
	w.refit(&run, "evaluate", w.service)
	<-asked.reached
	w.worker.kill()
	close(asked.killed)
	other := newProcess(t, w.path("logs"), "worker-elsewhere", append(append([]string{}, w.env...), "REFIT_DATA="+w.path("elsewhere")), w.binary, "worker")
	other.start()
	verdict, err := ended[lifecycle.Verdict](w, run)
	require.NoError(t, err)
	require.Equal(t, lifecycle.PassOutcome, verdict.Outcome, verdict.Reasons)
	require.Equal(t, 600, verdict.Capabilities[0].Items)
	asked.check(t)

	// Who asks the same again asks nobody.
	before := asked.total()
	_, name = w.release("second")
	servers.know(name)
	require.Zero(t, w.try("evaluate", w.service, "--release", string(verdict.Candidate), "--watch").code)
	require.Equal(t, before, asked.total())
}

// askedOnce counts prompts at the model server. At one of them it waits until the worker is killed.
type askedOnce struct {
	stopAt          int
	reached, killed chan struct{}

	mu    sync.Mutex
	times map[string]int
	order []string // by when they were asked first
	all   int
}

func (a *askedOnce) note(prompt string) {
	a.mu.Lock()
	if a.times[prompt] == 0 {
		a.order = append(a.order, prompt)
	}
	a.times[prompt]++
	a.all++
	n := a.all
	if n == a.stopAt {
		close(a.reached)
	}
	a.mu.Unlock()
	if n >= a.stopAt {
		<-a.killed
	}
}

func (a *askedOnce) total() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}

// check: batches are asked one after the other, so the first 200 prompts are those of the first two.
func (a *askedOnce) check(t *testing.T) {
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Len(t, a.order, 600, "each case has a prompt of its own")
	for i, prompt := range a.order {
		switch {
		case i < 200:
			require.Equal(t, 1, a.times[prompt], "prompt %d was in a batch that had ended", i)
		case i >= 300:
			require.Equal(t, 1, a.times[prompt], "prompt %d was asked by the second worker only", i)
		}
	}
	require.Greater(t, a.all, 600, "the batch that was cut off is asked again: nothing of it has left the killed worker's disk")
	require.LessOrEqual(t, a.all, 700)
}
