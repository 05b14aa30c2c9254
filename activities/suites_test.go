package activities_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// desk is a service whose suite people wrote.
type desk struct {
	*gate
	folder  string
	declare lifecycle.Service
}

// newDesk writes a suite of one capability with as many cases.
func newDesk(t *testing.T, capability string, cases int) *desk {
	t.Helper()
	root := t.TempDir()
	d := &desk{gate: &gate{world: newWorld(t), servers: newModels(t)}, folder: filepath.Join(root, "support")}
	d.declare = service("docs")
	d.declare.Evaluation.Suite.Folder = d.folder
	d.apply(t, d.declare)
	d.evaluation = activities.Evaluation{Shelf: d.Shelf, Engines: d.servers.engines(), Unfinished: t.TempDir(), Roots: []string{root}}
	d.write(t, capability, cases)
	return d
}

func (d *desk) write(t *testing.T, capability string, cases int) {
	t.Helper()
	require.NoError(t, os.MkdirAll(d.folder, 0o755))
	yaml := "suite: support\ncapabilities:\n  - name: facts\n    ask: generate\n    files: [facts.jsonl]\n    " + strings.ReplaceAll(capability, "\n", "\n    ") + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(d.folder, "suite.yaml"), []byte(yaml), 0o600))
	var lines strings.Builder
	for i := range cases {
		fmt.Fprintf(&lines, `{"text":"Which city, number %d?","want":"Paris"}`+"\n", i)
	}
	lines.WriteString(`{"text":"What variants are tried against?","want":"Paris","split":"search"}` + "\n")
	require.NoError(t, os.WriteFile(filepath.Join(d.folder, "facts.jsonl"), []byte(lines.String()), 0o600))
}

// made makes a release of the same weights with the declaration's rules as they are now.
func (d *desk) made(t *testing.T, rules ...lifecycle.Rule) lifecycle.Digest {
	t.Helper()
	d.declare.Release.PostProcess = rules
	d.apply(t, d.declare)
	return d.release(t, "weights", "")
}

func TestAGateSeesARuleOfPostProcessing(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "score: contains\nmargin: 0.05", 60)
	d.servers.said = func(_, question string) string { return "It is Paris, to " + question }
	plain := d.made(t)
	masked := d.made(t, lifecycle.Rule{Kind: lifecycle.RuleDenyPattern, Value: "Paris"})
	_, before, err := d.Registry.Release(t.Context(), "docs", string(plain))
	require.NoError(t, err)
	_, after, err := d.Registry.Release(t.Context(), "docs", string(masked))
	require.NoError(t, err)
	require.Equal(t, before.ServedName(), after.ServedName(), "the same model answers")

	plan := d.plan(t, masked, plain)
	verdict := d.judge(t, plan)
	require.Equal(t, lifecycle.RegressOutcome, verdict.Outcome, verdict.Reasons)
	require.InDelta(t, 1, verdict.Capabilities[0].Baseline, 0)
	require.InDelta(t, 0, verdict.Capabilities[0].Candidate, 0)
	require.Equal(t, 60, verdict.Capabilities[0].Items, "gates do not ask the search split")

	answers := d.read(t, d.answers(t, masked, plan.Suite).Answers)
	require.Len(t, answers, 60)
	require.True(t, strings.HasPrefix(answers[0].Said, "It is [removed], to Which city"), answers[0].Said)
	require.Equal(t, lifecycle.Usage{Prompt: 9, Completion: 4}, answers[0].Usage)
	require.Positive(t, answers[0].Seconds)
	require.Positive(t, answers[0].Seed)
	require.Contains(t, string(answers[0].Parameters), fmt.Sprint(`"seed":`, answers[0].Seed))
	same := d.judge(t, d.plan(t, plain, plain))
	require.Equal(t, lifecycle.PassOutcome, same.Outcome, same.Reasons)
}

func (d *desk) read(t *testing.T, digest lifecycle.Digest) []evaluation.Answer {
	t.Helper()
	raw, err := d.Store.ReadFile(t.Context(), lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact, Digest: digest}, "answers.jsonl", 1<<20)
	require.NoError(t, err)
	answers, err := evaluation.ReadAnswers(strings.NewReader(string(raw)))
	require.NoError(t, err)
	return answers.List
}

func TestAWrittenSuiteAndABuiltOneAreAskedTogether(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "score: contains", 3)
	d.dataset(t, "base", 60)
	d.declare.Evaluation.Capabilities = []lifecycle.Capability{{Name: "text", Kind: "bits-per-byte", Corpus: "base", Items: 5, Margin: 0.1}}
	d.declare.Evaluation.Suite = lifecycle.SuiteSource{S3: "suites/support"}
	d.servers.said = func(string, string) string { return "Paris" }
	release := d.made(t)
	_, err := do(t, steps.PlanEvaluation, d.evaluation.Plan, steps.PlanEvaluationInput{Service: "docs", Release: string(release), By: by})
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "nothing lies in S3: %v", err)

	files := map[string][]byte{}
	for _, name := range []string{"suite.yaml", "facts.jsonl"} {
		files[name], err = os.ReadFile(filepath.Join(d.folder, name))
		require.NoError(t, err)
	}
	d.putPlain(t, "suites/support/", files)
	plan := d.plan(t, release, "")
	again := d.plan(t, release, "")
	require.Equal(t, plan.Suite, again.Suite, "the same files give the same suite")
	verdict := d.judge(t, plan)
	require.Equal(t, lifecycle.PassOutcome, verdict.Outcome, verdict.Reasons)
	require.Len(t, verdict.Capabilities, 2)
	require.Equal(t, []int{3, 5}, []int{verdict.Capabilities[0].Items, verdict.Capabilities[1].Items})

	files["facts.jsonl"] = append(files["facts.jsonl"], `{"text":"One more?","want":"Paris"}`...)
	d.putPlain(t, "suites/support/", files)
	require.NotEqual(t, plan.Suite, d.plan(t, release, "").Suite, "another suite is another question")
}

func TestASuiteThatCannotBeReadIsNoPlan(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "score: vibes", 3)
	release := d.made(t)
	plan := func() error {
		_, err := do(t, steps.PlanEvaluation, d.evaluation.Plan, steps.PlanEvaluationInput{Service: "docs", Release: string(release), By: by})
		return err
	}
	err := plan()
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	require.ErrorContains(t, err, "suite.yaml:3: ")
	d.evaluation.Roots = []string{t.TempDir()}
	require.True(t, lifecycle.Is(plan(), lifecycle.Refused), "a folder below no root")
}

// putPlain puts files below a prefix of the store, as people put them there.
func (w *world) putPlain(t *testing.T, prefix string, files map[string][]byte) {
	t.Helper()
	client, err := minio.New(w.s3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(w.s3.AccessKey, w.s3.SecretKey, "")})
	require.NoError(t, err)
	for name, content := range files {
		_, err := client.PutObject(t.Context(), w.s3.Bucket, w.s3.Prefix+"/"+prefix+name, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
		require.NoError(t, err)
	}
}

// judging is an endpoint that replies what it is told; it keeps the keys that it was shown.
func judging(t *testing.T, reply func(about string) string) (address string, keys *[]string) {
	t.Helper()
	keys = &[]string{}
	var one sync.Mutex // question at a time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one.Lock()
		defer one.Unlock()
		var asked struct {
			Model    string `json:"model"`
			Messages []struct{ Role, Content string }
		}
		if json.NewDecoder(r.Body).Decode(&asked) != nil || asked.Model != "judge-1" || len(asked.Messages) != 2 || asked.Messages[0].Role != "system" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		*keys = append(*keys, r.Header.Get("Authorization"))
		_ = json.NewEncoder(w).Encode(map[string]any{"object": "chat.completion", "choices": []any{map[string]any{
			"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": reply(asked.Messages[1].Content)},
		}}})
	}))
	t.Cleanup(server.Close)
	return server.URL, keys
}

func TestAJudgeOfTheOperatorsScores(t *testing.T) {
	t.Parallel()
	d := newDesk(t, `score: {name: judge-rubric, settings: {judge: strict, rubric: names a city}}`, 2)
	d.servers.said = func(string, string) string { return "Paris" }
	plan := d.plan(t, d.made(t), "")
	refused := func(why string) {
		verdict, err := do(t, steps.JudgeGate, d.evaluation.Judge, steps.JudgeGateInput{
			Service: "docs", Plan: plan, CandidateAnswers: d.answers(t, plan.Candidate, plan.Suite).Answers, By: by,
		})
		require.NoError(t, err)
		require.Equal(t, lifecycle.ErrorOutcome, verdict.Outcome)
		require.Contains(t, verdict.Reasons[0], why)
	}
	refused(`declares no judge "strict"`)

	url, keys := judging(t, func(string) string { return "I like it: 5" })
	d.evaluation.Secret = func(string) (string, error) { return "key-1", nil }
	d.evaluation.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-1", APIKey: "env:KEY"}}
	refused("did not reply in the form")
	require.Contains(t, *keys, "Bearer key-1")
	d.evaluation.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-2"}}
	refused("the model server answered 400")

	asked := 0
	url, _ = judging(t, func(about string) string {
		if asked++; asked == 2 {
			return "I cannot say."
		}
		if strings.Contains(about, `"answer":"Paris"`) {
			return "It does.\n{\"score\": 4}"
		}
		return `{"score": 1}`
	})
	d.evaluation.Judges = map[string]activities.Judge{"strict": {URL: url, Model: "judge-1"}}
	out := d.answers(t, plan.Candidate, plan.Suite)
	require.False(t, out.Reused)
	before := d.servers.requests()
	out = d.answers(t, plan.Candidate, plan.Suite)
	require.Equal(t, before+1, d.servers.requests(), "only what had no score is asked again")
	require.False(t, out.Reused)
	for _, answer := range d.read(t, out.Answers) {
		require.InDelta(t, 0.75, answer.Score, 1e-9)
		require.Empty(t, answer.Error)
	}
	require.True(t, d.answers(t, plan.Candidate, plan.Suite).Reused)
}

func TestACommandOfTheOperatorsScores(t *testing.T) {
	t.Parallel()
	shell := func(script string) activities.Command {
		return activities.Command{Argv: []string{"/bin/sh", "-c", script}, TimeLimit: 20 * time.Second}
	}
	d := newDesk(t, `score: {name: command, settings: {command: own}}`, 1)
	d.servers.said = func(string, string) string { return "Paris" }
	release := d.made(t)
	suite := d.plan(t, release, "").Suite
	answer := func(command activities.Command) (steps.AnswerResult, error) {
		d.evaluation.Commands = map[string]activities.Command{"own": command}
		return do(t, steps.AnswerSuite, d.evaluation.Answer, steps.AnswerInput{Service: "docs", Release: release, Suite: suite, By: by})
	}
	for what, tc := range map[string]struct {
		command activities.Command
		fault   string
	}{
		"no score":            {shell(`echo 1`), "did not write"},
		"a failure":           {shell(`cat >/dev/null; echo '{"score": 1}'; exit 3`), "exit status 3"},
		"too much":            {shell(`head -c 100000 /dev/zero`), "it wrote over"},
		"not in time":         {activities.Command{Argv: []string{"/bin/sh", "-c", "sleep 60 & wait"}, TimeLimit: 50 * time.Millisecond}, "did not end within"},
		"a program not there": {activities.Command{Argv: []string{"/nowhere/scorer"}}, "no such file"},
	} {
		t.Run(what, func(t *testing.T) {
			out, err := answer(tc.command)
			require.NoError(t, err)
			require.Contains(t, d.read(t, out.Answers)[0].Error, tc.fault)
		})
	}
	out, err := answer(shell(`grep -q '"answer":"Paris"' && echo '{"score": 0.25}'`))
	require.NoError(t, err, "what failed before is asked again")
	require.InDelta(t, 0.25, d.read(t, out.Answers)[0].Score, 0)
}
