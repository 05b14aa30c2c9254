package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// served is a world in which a first release is stable, on a model server of the test's, and a candidate waits.
type served struct {
	*world
	models            *models
	stable, candidate lifecycle.Digest
	stableName, name  string // under which the model server serves them

	more, moreOfRollout string // of the declaration, as lines of YAML
}

// step is one step of a rollout as a test wants it.
type step struct {
	share         lifecycle.BasisPoints
	conversations int
}

// newServed brings a service up, by commands, to its first stable release behind so many gateways.
func newServed(t *testing.T, g ground, gateways int, rollout ...step) *served {
	t.Helper()
	s := &served{world: newWorld(t, g), models: newModels(t)}
	s.bringUp(gateways, rollout...)
	return s
}

func (s *served) bringUp(gateways int, rollout ...step) {
	s.t.Helper()
	s.startConsole()
	s.worker.start()
	s.declare(rollout)
	_, err := ended[steps.BuildDatasetResult](s.world, s.startInUI(steps.BuildDataset, map[string]string{"service": s.service, "corpus": "base"}))
	require.NoError(s.t, err)
	s.stable, s.stableName = s.release("first")
	s.models.know(s.stableName)
	for range gateways {
		s.addGateway()
	}
	var first steps.PromotionResult
	s.refit(&first, "promote", s.service, "--release", string(s.stable), "--watch")
	require.Equal(s.t, lifecycle.RolloutPromoted, first.Phase)
	s.awaitServing()
	s.nextCandidate("second")
}

// nextCandidate adds a release that waits for its promotion.
func (s *served) nextCandidate(name string) {
	s.t.Helper()
	s.candidate, s.name = s.release(name)
	s.models.know(s.name)
}

// declare applies the service. Its gate asks for next words, which the test's model server gets equally wrong under
// every name. By the default level of the share test one rollout in a hundred might end as invalid by chance.
func (s *served) declare(rollout []step) {
	s.t.Helper()
	corpus := s.writeCorpus("notes", 160, 1)
	yaml := fmt.Sprintf(`service: %s
serving: {engine: static, endpoints: [{url: %q, capacity: 64}]}
corpora: {base: {sources: [{kind: folder, path: %q}], held_out: 0.5}}
training: {base: %s}
evaluation: {capabilities: [{name: next-word, kind: next-token, corpus: base, items: 50, margin: 0.3}]}
%srollout:
%s  metrics: [{name: errors, required: true, floor: 0.3}]
  levels: {share: 1e-9}
  steps:
`, s.service, s.models.url, corpus, smallTraining, s.more, s.moreOfRollout)
	for _, r := range rollout {
		yaml += fmt.Sprintf("    - {share_bp: %d, min_conversations: %d, max_time: 15m}\n", r.share, r.conversations)
	}
	s.apply(yaml)
}

// know lets the server serve one more name.
func (m *models) know(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names[name] = true
}

// started is what commands that start a workflow print.
type started struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
}

// promote starts the candidate's promotion by command.
func (s *served) promote(flags ...string) started {
	s.t.Helper()
	var out started
	s.refit(&out, append([]string{"promote", s.service, "--release", string(s.candidate)}, flags...)...)
	return out
}

// awaitStep waits until the route names the candidate with a step's share.
func (s *served) awaitStep(step int, share lifecycle.BasisPoints) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("step %d at %s", step+1, share), func() (bool, any) {
		r := s.route()
		return r.Canary == s.candidate && r.Step == step && r.Share == share, r
	})
}

// awaitCanary waits until the model server has answered so many more chats under the candidate's name.
func (s *served) awaitCanary(n int) {
	s.t.Helper()
	until := s.models.count(s.name) + n
	await(s.t, fmt.Sprintf("%d more answers by the canary", n), func() (bool, any) {
		seen := s.models.count(s.name)
		return seen >= until, seen
	})
}

// ended waits for a workflow's end and reads its result; err is the workflow's own. That Temporal does not answer
// for a while is no end.
func ended[Out any](w *world, run started) (Out, error) {
	w.t.Helper()
	var out Out
	var failure error
	await(w.t, "workflow "+run.WorkflowID+" to end", func() (bool, any) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		var raw json.RawMessage
		err := w.temporal.GetWorkflow(ctx, run.WorkflowID, run.RunID).Get(ctx, &raw)
		var own *temporal.WorkflowExecutionError
		if errors.As(err, &own) {
			failure = err
			return true, nil
		}
		if err == nil {
			require.NoError(w.t, json.Unmarshal(raw, &out))
		}
		return err == nil, err
	})
	return out, failure
}

// awaitPhase waits until the running workflow says that it is in a phase.
func (w *world) awaitPhase(run started, phase string) {
	w.t.Helper()
	await(w.t, "phase "+phase, func() (bool, any) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		value, err := w.temporal.QueryWorkflow(ctx, run.WorkflowID, run.RunID, steps.StateQuery)
		if err != nil {
			return false, err
		}
		var state steps.State
		if err := value.Get(&state); err != nil {
			return false, err
		}
		return state.Phase == phase, state
	})
}
