package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// The developer's own shell says nothing about Refit to these tests.
func TestMain(m *testing.M) {
	for _, line := range os.Environ() {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "REFIT_") && name != "REFIT_TEST_STACK" {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

// outcome is how a command ended.
type outcome struct {
	code        int
	out, errors string
}

// api is a control API that answers what it is told. It keeps what it was asked.
type api struct {
	t        *testing.T
	settings string
	token    string

	mu      sync.Mutex
	answers map[string]any   // by use case: a result, or a *lifecycle.Error
	asked   map[string][]any // by use case
}

func newAPI(t *testing.T, answers map[string]any) *api {
	t.Helper()
	a := &api{t: t, token: rand.Text(), answers: answers, asked: map[string][]any{}}
	server := httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte(a.token+"\n"), 0o600))
	a.settings = filepath.Join(dir, "settings.yaml")
	require.NoError(t, os.WriteFile(a.settings, fmt.Appendf(nil, "control:\n  url: %s\n  token_file: %s\nregistry:\n  rollback_url: postgres://x@127.0.0.1:1/x\n", server.URL, filepath.Join(dir, "token")), 0o600))
	return a
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, control.APIPath)
	var in any
	_ = json.NewDecoder(r.Body).Decode(&in)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[name] = append(a.asked[name], in)
	result, ok := a.answers[name]
	if list, isList := result.([]any); isList {
		result = list[min(len(a.asked[name]), len(list))-1]
	}
	problem, failed := result.(*lifecycle.Error)
	switch {
	case r.Header.Get("Authorization") != "Bearer "+a.token:
		w.WriteHeader(http.StatusUnauthorized)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	case failed:
		w.WriteHeader(problem.Kind.HTTPStatus())
		_ = json.NewEncoder(w).Encode(problem)
	default:
		_ = json.NewEncoder(w).Encode(result)
	}
}

func (a *api) run(args ...string) outcome {
	a.t.Helper()
	return command(a.t.Context(), append(args, "--settings", a.settings)...)
}

func command(ctx context.Context, args ...string) outcome {
	var out, errors bytes.Buffer
	code := run(ctx, args, &out, &errors)
	return outcome{code, out.String(), errors.String()}
}

func TestEveryCommandNamesTheExitCodes(t *testing.T) {
	t.Parallel()
	var visit func(c *cobra.Command)
	seen := 0
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if c.Hidden || c.Name() == "completion" || c.Parent() != nil && c.Parent().Name() == "completion" {
			return
		}
		seen++
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		o := command(t.Context(), args...)
		require.Zero(t, o.code, args)
		require.Contains(t, o.out, exitCodes, args)
		require.NotEmpty(t, c.Short, args)
	}
	visit(newRoot(&app{}))
	require.Greater(t, seen, 25)
}

func TestTheCommandsThatPeopleKnow(t *testing.T) {
	t.Parallel()
	root := newRoot(&app{})
	for _, path := range []string{
		"up", "gateway", "worker", "console", "migrate", "apply", "schema", "status", "releases", "release", "diff", "train", "index",
		"evaluate", "compare", "tune", "archive", "promote", "approve", "reject", "pause", "resume", "abort", "rollback", "schedule list", "schedule pause",
		"schedule resume", "schedule trigger", "feedback", "ledger", "suite check", "suite import", "suite scorers", "keys create", "keys list", "keys revoke",
		"freeze list", "freeze check", "freeze open", "freeze close", "break-glass",
	} {
		found, rest, err := root.Find(strings.Fields(path))
		require.NoError(t, err, path)
		require.Empty(t, rest, path)
		require.True(t, found.Runnable(), path)
	}
}

func problemOf(kind lifecycle.Kind) *lifecycle.Error {
	return &lifecycle.Error{Kind: kind, Message: "as it is", Fields: map[string]string{"holder": "promote/docs"}}
}

// Every kind of error has one exit code, whatever the command.
func TestExitCodesFollowKinds(t *testing.T) {
	t.Parallel()
	for kind, want := range map[lifecycle.Kind]int{
		lifecycle.Invalid: 2, lifecycle.NotFound: 2, lifecycle.Busy: 5, lifecycle.Fenced: 5, lifecycle.Refused: 5, lifecycle.Conflict: 5,
		lifecycle.Regress: 3, lifecycle.Underpowered: 4, lifecycle.Corrupt: 1, lifecycle.Unavailable: 1, lifecycle.Internal: 1,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, map[string]any{
				"status": problemOf(kind), "promote": problemOf(kind), "rollback": problemOf(kind), "approve": problemOf(kind), "ledger": problemOf(kind),
			})
			for _, args := range [][]string{
				{"status", "docs"}, {"promote", "docs"}, {"rollback", "docs", "--reason", "x"}, {"approve", "docs"}, {"ledger", "docs"},
			} {
				o := a.run(args...)
				require.Equal(t, want, o.code, args)
				require.Empty(t, o.out, args)
				require.Equal(t, "refit: as it is\n", o.errors, args)

				var said struct {
					Error lifecycle.Error `json:"error"`
				}
				o = a.run(append(args, "-o", "json")...)
				require.Equal(t, want, o.code, args)
				require.NoError(t, json.Unmarshal([]byte(o.out), &said), o.out)
				require.Equal(t, *problemOf(kind), said.Error)
			}
		})
	}
}

func TestWhatCannotBeMeantIsUsage(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	for _, args := range [][]string{
		{"nothing"}, {"status", "a", "b"}, {"status", "--nothing"}, {"promote"}, {"schedule", "nothing"}, {"schedule", "pause", "docs"},
		{"status", "docs", "-o", "xml"}, {"rollback", "docs"}, {"apply", "/nowhere/service.yaml"}, {"ledger", "docs", "--limit", "many"},
		{"migrate"}, {"rollback", "docs", "--direct"},
	} {
		o := a.run(args...)
		require.Equal(t, 2, o.code, "%v: %s", args, o.errors)
		require.NotEmpty(t, o.errors, args)
	}
	require.Empty(t, a.asked, "nothing was asked of anybody")
	require.Contains(t, a.run("statis", "docs").errors, "did you mean status")
}

func TestAControlAPIThatIsAwayIsInfrastructure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	settings := filepath.Join(dir, "settings.yaml")
	require.NoError(t, os.WriteFile(settings, fmt.Appendf(nil, "data: %s\ncontrol: {url: 'http://127.0.0.1:1'}\n", dir), 0o600))
	o := command(t.Context(), "status", "docs", "--settings", settings)
	require.Equal(t, 1, o.code, "%s", o.errors)
	require.Contains(t, o.errors, "refit up")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "control-token"), []byte("x"), 0o600))
	o = command(t.Context(), "status", "docs", "--settings", settings)
	require.Equal(t, 1, o.code)
	require.Contains(t, o.errors, "http://127.0.0.1:1")
	o = command(t.Context(), "rollback", "docs", "--direct", "--reason", "x", "--settings", newAPI(t, nil).settings)
	require.Equal(t, 1, o.code, "a registry that is away is no usage error: %s", o.errors)
}

var started = control.Started{WorkflowID: "promote/docs", RunID: "run-1", URL: "http://ui.test"}

func TestAPromotionsEndIsTheExitCode(t *testing.T) {
	t.Parallel()
	result := func(phase lifecycle.RolloutPhase) json.RawMessage {
		raw, err := json.Marshal(steps.PromotionResult{Release: "ab", Phase: phase, Reason: "because", Touched: &lifecycle.Touched{Conversations: 7}})
		require.NoError(t, err)
		return raw
	}
	running := control.Watched{Status: "Running", State: &steps.State{Phase: "canary", Reason: "step 1 of 2 at 5%"}}
	for name, tc := range map[string]struct {
		end  control.Watched
		code int
		want string
	}{
		"promoted":    {control.Watched{Status: "Completed", Result: result(lifecycle.RolloutPromoted)}, 0, "promoted"},
		"rolled back": {control.Watched{Status: "Completed", Result: result(lifecycle.RolloutRolledBack)}, 3, "touched 7 conversations"},
		"gate":        {control.Watched{Status: "Failed", Error: problemOf(lifecycle.Underpowered)}, 4, "as it is"},
		"busy":        {control.Watched{Status: "Failed", Error: problemOf(lifecycle.Busy)}, 5, "as it is"},
		"terminated":  {control.Watched{Status: "Terminated", Error: problemOf(lifecycle.Internal)}, 1, "as it is"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, map[string]any{"promote": started, "watch": []any{running, problemOf(lifecycle.Unavailable), running, tc.end}})
			o := a.run("promote", "docs", "--watch")
			require.Equal(t, tc.code, o.code, o.errors)
			require.Contains(t, o.out+o.errors, tc.want)
			require.Contains(t, o.errors, "canary: step 1 of 2 at 5%\n")
			require.Contains(t, o.errors, "waiting for the control API")
		})
	}
}

func TestAVerdictIsTheExitCode(t *testing.T) {
	t.Parallel()
	for outcome, code := range map[lifecycle.Outcome]int{
		lifecycle.PassOutcome: 0, lifecycle.RegressOutcome: 3, lifecycle.UnderpoweredOutcome: 4, lifecycle.ErrorOutcome: 1, "": 1,
	} {
		raw, err := json.Marshal(lifecycle.Verdict{Outcome: outcome, Reasons: []string{"three got worse"}})
		require.NoError(t, err)
		a := newAPI(t, map[string]any{"start": started, "watch": control.Watched{Status: "Completed", Result: raw}})
		o := a.run("evaluate", "docs", "--watch", "-o", "json")
		require.Equal(t, code, o.code, "outcome %q: %s", outcome, o.errors)
		var verdict lifecycle.Verdict
		require.NoError(t, json.Unmarshal([]byte(o.out), &verdict), "one JSON value: %s", o.out)
		require.Equal(t, outcome, verdict.Outcome)
	}
}

// Leaving the view ends the command and nothing else: no use case but watch is asked.
func TestLeavingTheViewStopsNothing(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]any{"promote": started, "watch": control.Watched{Status: "Running"}})
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		defer leave()
		require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.asked["watch"]) > 0 }, patience, tick)
	}()
	o := command(ctx, "promote", "docs", "--watch", "--settings", a.settings)
	require.Equal(t, exitInterrupted, o.code)
	require.Contains(t, o.errors, "left the view; promote/docs goes on http://ui.test")
	require.Len(t, a.asked["promote"], 1)
	require.Len(t, a.asked, 2)
}

func TestFlagsBecomeInput(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]any{
		"promote": started, "start": started, "intervene": steps.State{}, "change-schedule": control.ScheduleChange{ID: "docs/index", Change: "paused"},
		"approve": steps.State{}, "rollback": control.RollbackResult{}, "diff": control.DiffResult{Levers: []lifecycle.Lever{lifecycle.PromptLever}},
	})
	for _, args := range [][]string{
		{"promote", "docs", "--release", "abc", "--approval", "--wait", "--reason", "better"},
		{"approve", "docs", "--step", "2", "--reason", "looks well", "--key", "k1"},
		{"train", "docs", "--stage", "base"}, {"index", "docs"}, {"tune", "docs"}, {"archive", "docs"}, {"evaluate", "docs", "--release", "abc", "--baseline", "def"},
		{"abort", "docs", "--reason", "wrong", "--key", "k1"},
		{"schedule", "pause", "docs", "index", "--note", "holidays"},
		{"rollback", "docs", "--reason", "it stammers"},
		{"diff", "docs", "abc", "def"},
	} {
		o := a.run(args...)
		require.Zero(t, o.code, "%v: %s", args, o.errors)
		require.NotEmpty(t, o.out, args)
	}
	asJSON, err := json.Marshal(a.asked)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"promote": [{"service": "docs", "release": "abc", "approval": true, "wait": true, "reason": "better"}],
		"approve": [{"service": "docs", "step": 2, "reason": "looks well", "key": "k1"}],
		"start": [
			{"workflow": "ContinuePretraining", "input": {"service": "docs", "stage": "base"}},
			{"workflow": "RebuildIndex", "input": {"service": "docs"}},
			{"workflow": "TuneFromFeedback", "input": {"service": "docs"}},
			{"workflow": "ArchiveInteractions", "input": {"service": "docs"}},
			{"workflow": "EvaluateRelease", "input": {"service": "docs", "release": "abc", "baseline": "def"}}
		],
		"intervene": [{"service": "docs", "action": "abort", "reason": "wrong", "key": "k1"}],
		"change-schedule": [{"service": "docs", "loop": "index", "action": "pause", "note": "holidays"}],
		"rollback": [{"service": "docs", "reason": "it stammers"}],
		"diff": [{"service": "docs", "before": "abc", "after": "def"}]
	}`, string(asJSON))
}

func TestStatusIsWatchedUntilInterrupted(t *testing.T) {
	t.Parallel()
	one, two := control.StatusResult{Service: "docs", Attribution: "unknown"}, control.StatusResult{Service: "docs", Attribution: "verified"}
	a := newAPI(t, map[string]any{"status": []any{one, one, problemOf(lifecycle.Unavailable), two}})
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		defer leave()
		require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.asked["status"]) > 4 }, patience, tick)
	}()
	o := command(ctx, "status", "docs", "--watch", "--settings", a.settings)
	require.Equal(t, exitInterrupted, o.code)
	require.Equal(t, 1, strings.Count(o.out, "attribution  unknown"), "it is shown when it changes: %s", o.out)
	require.Equal(t, 1, strings.Count(o.out, "attribution  verified"))
	require.Contains(t, o.errors, "waiting for the control API")
}

func TestApplyReadsStrictlyAndExitsOneWhereSchedulesAreMissing(t *testing.T) {
	t.Parallel()
	const example = "../../configs/examples/docs-assistant.yaml"
	a := newAPI(t, map[string]any{"apply": control.ApplyResult{Changes: []string{"rollout.bake_time: 1h -> 2h"}, Warning: "schedules are not reconciled"}})
	o := a.run("apply", example)
	require.Equal(t, 1, o.code)
	require.Contains(t, o.out, "rollout.bake_time: 1h -> 2h")
	require.Contains(t, o.errors, "schedules are not reconciled")

	file := filepath.Join(t.TempDir(), "service.yaml")
	raw, err := os.ReadFile(example)
	require.NoError(t, err)
	broken := strings.NewReplacer("share_bp: 1000", "share_bp: 40000", "Europe/Berlin", "Eurupe/Berlin").Replace(string(raw))
	require.NoError(t, os.WriteFile(file, []byte(broken), 0o600))
	o = a.run("apply", file)
	require.Equal(t, 2, o.code)
	for _, fault := range []string{"rollout.steps[0].share_bp", "cadences[0].time_zone", "cadences[2].time_zone"} {
		require.Contains(t, o.errors, fault)
	}
	require.Len(t, a.asked["apply"], 1, "what is faulty is not sent")
}

func TestStatusAlwaysSaysTheWayBackAndTheAttribution(t *testing.T) {
	t.Parallel()
	s := control.StatusResult{
		Service: "docs", WayBack: control.WayBack{Speed: "about 2 min: must load", Why: "no server answers"}, Attribution: "unverified", Behind: []string{"g2"},
		Loops: []control.LoopStatus{{Claim: lifecycle.Claim{Loop: lifecycle.PromotionLoop, Owner: lifecycle.Owner{WorkflowID: "promote/docs"}}}},
	}
	ended := lifecycle.StepVerdict{Decision: lifecycle.Promote, Reason: "all proven", Metrics: []lifecycle.MetricVerdict{
		{Metric: "errors", Ratio: lifecycle.Interval{Low: 0.4, High: 1.9, LowLevel: 0.05, HighLevel: 0.05}, Tolerated: 1, Margin: 3},
	}}
	s.Rollout = &lifecycle.Rollout{StartedBy: lifecycle.Actor{Name: "eve", Via: lifecycle.ViaWorkflow}, Steps: []lifecycle.StepRecord{{Verdict: ended}}}
	a := newAPI(t, map[string]any{"status": s, "services": []map[string]string{{"service": "docs"}}})
	o := a.run("status", "docs")
	require.Zero(t, o.code, o.errors)
	for _, want := range []string{"way back     about 2 min: must load (no server answers)", "attribution  unverified", "behind: g2", "no worker answers",
		"started by said to be eve (not proven)", "judged       promote: all proven", "errors: the canary's risk is 0.4 to 1.9 times stable's (harm from 1, safe to 3)"} {
		require.Contains(t, o.out, want)
	}
	o = a.run("status")
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.out, "about 2 min: must load")
	var all []control.StatusResult
	require.NoError(t, json.Unmarshal([]byte(a.run("status", "-o", "json").out), &all))
	require.Equal(t, s.WayBack, all[0].WayBack)
}
