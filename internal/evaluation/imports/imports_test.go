package imports

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
)

func from(t *testing.T, format string, how Options, names ...string) Result {
	t.Helper()
	var files []File
	for _, name := range names {
		raw, err := os.ReadFile("testdata/" + name)
		require.NoError(t, err)
		files = append(files, File{Name: "testdata/" + name, Read: bytes.NewReader(raw)})
	}
	got, err := Import("imported", format, how, files...)
	require.NoError(t, err)
	require.NoError(t, got.Suite.Check())
	require.Equal(t, "imported", got.Suite.Name)
	return got
}

func ids(s evaluation.Suite) (list []string) {
	for _, c := range s.Cases {
		list = append(list, c.ID)
	}
	return list
}

// The files were written by lm-evaluation-harness 0.4.13 with --model dummy --log_samples, on tasks made for this test.
func TestLMEvaluationHarness(t *testing.T) {
	t.Parallel()
	got := from(t, "lm-eval", Options{}, "samples_refit_mc_2026-11-25T20-39-54.953512.jsonl",
		"samples_refit_gen_2026-11-25T20-39-54.953512.jsonl", "samples_refit_roll_2026-11-25T20-39-54.953512.jsonl")
	require.Equal(t, []string{"refit-mc/0", "refit-mc/1", "refit-mc/2", "refit-gen/0", "refit-gen/1", "refit-roll/0", "refit-roll/1"}, ids(got.Suite))
	kinds := map[string]string{}
	for _, c := range got.Suite.Capabilities {
		kinds[c.Name] = c.Kind + " " + c.Scorer.Name
	}
	require.Equal(t, map[string]string{"refit-mc": "choice likeliest", "refit-gen": "generate exact", "refit-roll": "likelihood bits-per-byte"}, kinds)
	c := got.Suite.Cases[0]
	require.Equal(t, "A stream that was closed can be", c.Text)
	require.Equal(t, []string{" read again", " no longer read"}, c.Choices)
	require.Equal(t, " no longer read", c.Want)
	require.Equal(t, "Q: Which city lies on the Seine?\nA:", got.Suite.Cases[3].Text)
	require.Equal(t, "Paris", got.Suite.Cases[3].Want)
	require.Equal(t, 16, got.Suite.Capabilities[1].Sampling.MaxTokens)

	require.Len(t, got.Answers, 7)
	right := 0.0
	for _, a := range got.Answers[:3] {
		right += a.Score
	}
	require.InDelta(t, 2, right, 0, "the tool reports an acc of 0.6667 of 3")
	require.Equal(t, evaluation.Answer{Case: "refit-gen/0", Capability: "refit-gen", Said: "lol"}, got.Answers[3])
	bits, bytes := 0.0, 0
	for _, a := range got.Answers[5:] {
		bits, bytes = bits+a.Bits, bytes+a.Bytes
	}
	require.InDelta(t, 0.0315, bits/float64(bytes), 0.0001, "the tool reports bits_per_byte 0.0315 over all bytes")
	require.Len(t, got.Notes, 1, "%v", got.Notes)
	require.Contains(t, got.Notes[0], "until")
}

func TestOlderFormsOfLMEvaluationHarness(t *testing.T) {
	t.Parallel()
	line := `{"doc_id":3,"doc":{},"target":0,"arguments":[["Say","a"],["Say","b"]],"resps":[[["-1","True"]],[["-2","False"]]],"filtered_resps":[],"metrics":["acc_norm"],"acc_norm":1}`
	got, err := Import("s", "lm-eval", Options{}, File{Name: "samples_x_y.jsonl", Read: strings.NewReader(line)})
	require.NoError(t, err)
	require.Equal(t, "a", got.Suite.Cases[0].Want)
	require.JSONEq(t, `{"by":"bytes"}`, string(got.Suite.Capabilities[0].Scorer.Settings))
	two := `{"doc_id":1,"target":"x","arguments":{"gen_args_0":{"arg_0":"q","arg_1":{}}},"resps":[["x","y"]],"filter":"strict","metrics":["exact_match"],"exact_match":1}` + "\n" +
		`{"doc_id":1,"target":"x","arguments":{"gen_args_0":{"arg_0":"q","arg_1":{}}},"resps":[["x","y"]],"filter":"loose","metrics":["exact_match"],"exact_match":1}`
	got, err = Import("s", "lm-eval", Options{}, File{Name: "t.jsonl", Read: strings.NewReader(two)})
	require.NoError(t, err)
	require.Len(t, got.Suite.Cases, 1)
	require.Equal(t, 2, got.Suite.Capabilities[0].Samples())
	require.Equal(t, []float64{1, 0}, []float64{got.Answers[0].Score, got.Answers[1].Score})
	require.Contains(t, got.Notes[0], `"loose"`)
}

// The file was written by lm-evaluation-harness 0.4.13 with --model dummy --log_samples, on a task of output_type
// loglikelihood as LAMBADA's are.
func TestALikelihoodOfWhatComesAfterAText(t *testing.T) {
	t.Parallel()
	got := from(t, "lm-eval", Options{}, "samples_refit_last_2026-11-26T00-15-53.553796.jsonl")
	require.Equal(t, []string{"refit-last/0", "refit-last/1", "refit-last/2"}, ids(got.Suite))
	c := got.Suite.Capabilities[0]
	require.Equal(t, []string{evaluation.Likelihood, "bits-per-byte"}, []string{c.Kind, c.Scorer.Name})
	require.Equal(t, "The baker took the bread out of the oven and put it on the", got.Suite.Cases[0].Text)
	require.Equal(t, " table", got.Suite.Cases[0].Want)
	require.Len(t, got.Answers, 3)
	require.InDelta(t, -0.2604923103919594/math.Ln2/6, got.Answers[0].Score, 1e-9)
	// The harness printed a perplexity of 1.7127: e to the mean of what each item's bits say.
	mean := 0.0
	for _, a := range got.Answers {
		mean += a.Bits * math.Ln2 / 3
	}
	require.InDelta(t, 1.7127, math.Exp(mean), 1e-4)
	require.Contains(t, got.Notes[0], "acc, whether each token was the likeliest, is not carried over")
}

// The logs were written by inspect_ai 0.3.285 with mockllm, on tasks made for this test; its .eval is a zip of zstd.
func TestInspect(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"inspect-words.json", "inspect-words.eval"} {
		got := from(t, "inspect", Options{}, name)
		require.Equal(t, []string{"words/both", "words/seine"}, ids(got.Suite), name)
		require.Equal(t, "contains", got.Suite.Capabilities[0].Scorer.Name)
		require.Equal(t, 2, got.Suite.Capabilities[0].Samples(), "epochs are samples")
		both := got.Suite.Cases[0]
		require.Equal(t, []string{"no", "nay"}, both.References())
		require.Equal(t, "And now say no or nay.", both.Text)
		require.Equal(t, []evaluation.Message{{Role: "system", Content: "Be short."}, {Role: "user", Content: "Say yes."}, {Role: "assistant", Content: "yes"}}, both.Messages)
		require.Len(t, got.Answers, 4)
		var scores []string
		for _, a := range got.Answers {
			scores = append(scores, fmt.Sprint(a.Case, a.Sample, a.Score))
			require.Positive(t, a.Seconds)
			require.Equal(t, lifecycle.Usage{Prompt: 9, Completion: 4}, a.Usage)
		}
		require.Equal(t, []string{"words/both0 1", "words/both1 1", "words/seine0 1", "words/seine1 0"}, scores)
		require.Empty(t, got.Notes, "scores are those of the tool")
	}
	got := from(t, "inspect", Options{}, "inspect-letters.json")
	require.Equal(t, "choice", got.Suite.Capabilities[0].Kind)
	require.Equal(t, " seven", got.Suite.Cases[1].Want)
	require.Equal(t, []string{" blue", " seven"}, got.Suite.Cases[1].Choices)
	require.Contains(t, got.Notes[0], "asks for a letter")
	got = from(t, "inspect", Options{Score: "token-f1"}, "inspect-words.json")
	require.Equal(t, "token-f1", got.Suite.Capabilities[0].Metric)
}

// The file was written by promptfoo 0.121.20 with the provider echo, on tests made for this one.
func TestPromptfoo(t *testing.T) {
	t.Parallel()
	got := from(t, "promptfoo", Options{}, "promptfoo-0.121.20.json")
	var names []string
	for _, c := range got.Suite.Capabilities {
		names = append(names, fmt.Sprint(c.Name, " ", c.Scorer.Name, string(c.Scorer.Settings), " ", c.Items))
	}
	require.ElementsMatch(t, []string{
		`own-cases-contains contains{"case":true} 2`, "own-cases-icontains contains 2", "own-cases-regex regex 2", "own-cases-equals exact 2",
		`own-cases-contains-any contains{"case":true} 2`, `own-cases-contains-all contains{"all":true,"case":true} 2`,
	}, names)
	groups := map[string]bool{}
	for _, c := range got.Suite.Cases {
		groups[c.Group] = true
	}
	require.Len(t, groups, 3, "the prompts of one test are one group")
	chat := got.Suite.Cases[1]
	require.Equal(t, []evaluation.Message{{Role: "system", Content: "Be short."}}, chat.Messages)
	require.Equal(t, "Which city lies on the Seine?", chat.Text)
	require.Len(t, got.Answers, 12)
	require.Equal(t, []string{`assertions of type "javascript" are left out (2 times)`}, got.Notes, "and all scores are those of the tool")
}

// The form is the one of OpenAI evals' samples as it is documented; no file of the tool was at hand.
func TestInputAndIdeal(t *testing.T) {
	t.Parallel()
	lines := `{"input":"Which city lies on the Seine?","ideal":"Paris"}
{"input":[{"role":"system","content":"Be short."},{"role":"user","content":[{"type":"text","text":"Say no"}]}],"ideal":["no","nay"],"extra":1}
`
	got, err := Import("s", "jsonl", Options{}, File{Name: "a/My facts.jsonl", Read: strings.NewReader(lines)})
	require.NoError(t, err)
	require.Equal(t, []string{"my-facts/1", "my-facts/2"}, ids(got.Suite))
	require.Equal(t, []string{"no", "nay"}, got.Suite.Cases[1].References())
	require.Equal(t, "Say no", got.Suite.Cases[1].Text)
	require.Contains(t, got.Notes[0], "--score")
	require.Empty(t, got.Answers)
}

func TestWhatDoesNotReadIsToldAndNotRepeated(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct{ format, content, want string }{
		"an unknown format":             {"xml", "", "give one of inspect, jsonl, lm-eval, promptfoo"},
		"nothing":                       {"jsonl", "", "no case could be made"},
		"no JSON":                       {"jsonl", "secret", "line 1: no JSON object"},
		"no input":                      {"jsonl", `{"ideal":"x"}`, "line 1: input"},
		"a picture":                     {"jsonl", `{"input":[{"role":"user","content":[{"type":"image_url"}]}],"ideal":"x"}`, "line 1: input"},
		"no ideal":                      {"jsonl", `{"input":"x","ideal":null}`, "line 1: ideal"},
		"an empty ideal":                {"jsonl", `{"input":"x","ideal":[" "]}`, "an empty text stands in every answer"},
		"no sample":                     {"lm-eval", `{}`, "line 1: no sample"},
		"arguments of another kind":     {"lm-eval", `{"doc_id":1,"arguments":7}`, "arguments"},
		"a target of no choice":         {"lm-eval", `{"doc_id":1,"target":"7","arguments":[["a","b"],["a","c"]]}`, "target: not the number of a choice"},
		"nothing before it":             {"lm-eval", `{"doc_id":1,"target":"b","arguments":[["","b"]]}`, "that cannot be asked here"},
		"choices after different texts": {"lm-eval", `{"doc_id":1,"target":"0","arguments":[["a","b"],["c","d"]]}`, "choices after different texts"},
		"no log":                        {"inspect", `{}`, "eval.task is missing"},
		"a broken zip":                  {"inspect", "PK\x03\x04secret", "no zip"},
		"no results":                    {"promptfoo", `{"results":{}}`, "results.results is empty"},
		"results of another type":       {"promptfoo", `{"results":"secret"}`, "field results is of another type"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			_, err := Import("s", tc.format, Options{}, File{Name: "f", Read: strings.NewReader(tc.content)})
			require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
	_, err := Import("s", "jsonl", Options{}, File{Name: "f", Read: io.LimitReader(zeros{}, maxLine+1)})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "a line without end: %v", err)
}

func zipOf(t *testing.T, files map[string]io.Reader) io.Reader {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entry, err := w.Create(name)
		require.NoError(t, err)
		_, err = io.Copy(entry, files[name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return &out
}

func TestAZipIsReadWithinBounds(t *testing.T) {
	t.Parallel()
	head := `{"eval":{"task":"t","scorers":[{"name":"includes"}]}}`
	sample := `{"id":1,"epoch":1,"input":"q","target":"a","output":{"completion":"a"},"scores":{"includes":{"value":"C"}}}`
	got, err := Import("s", "inspect", Options{}, File{Name: "x.eval", Read: zipOf(t, map[string]io.Reader{
		"header.json": strings.NewReader(head), "samples/1_epoch_1.json": strings.NewReader(sample), "../elsewhere.json": strings.NewReader("{"),
	})})
	require.NoError(t, err)
	require.Equal(t, []string{"t/1"}, ids(got.Suite))
	for what, tc := range map[string]struct {
		files map[string]io.Reader
		want  string
	}{
		"no header":       {map[string]io.Reader{"samples/1.json": strings.NewReader(sample)}, "open entry header.json"},
		"a broken sample": {map[string]io.Reader{"header.json": strings.NewReader(head), "samples/1.json": strings.NewReader(`{"id":secret`)}, "entry samples/1.json: not JSON at byte"},
	} {
		_, err := Import("s", "inspect", Options{}, File{Name: "x.eval", Read: zipOf(t, tc.files)})
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%s: %v", what, err)
		require.ErrorContains(t, err, tc.want, what)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestAnEntryUnpacksToNoMoreThanIsLeft(t *testing.T) {
	t.Parallel()
	raw, err := io.ReadAll(zipOf(t, map[string]io.Reader{"a.json": strings.NewReader(strings.Repeat(" ", 500) + "1")}))
	require.NoError(t, err)
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	for left, fits := range map[int64]bool{501: true, 500: false, 0: false} {
		var into int
		err := readEntry(archive, "a.json", &left, &into)
		require.Equal(t, fits, err == nil, "%v", err)
		if fits {
			require.Zero(t, left, "what was unpacked counts for the whole")
			continue
		}
		require.True(t, lifecycle.Is(err, lifecycle.Invalid))
		require.ErrorContains(t, err, "unpacks to over")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func FuzzImport(f *testing.F) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	for i, entry := range entries {
		if raw, err := os.ReadFile("testdata/" + entry.Name()); err == nil && !entry.IsDir() {
			f.Add(i%4, raw)
		}
	}
	f.Add(0, []byte(`{"input":"x","ideal":"y"}`))
	f.Fuzz(func(t *testing.T, which int, raw []byte) {
		format := Formats()[max(which%4, -which%4)]
		got, err := Import("s", format, Options{}, File{Name: "f", Read: bytes.NewReader(raw)})
		if err != nil {
			if !lifecycle.Is(err, lifecycle.Invalid) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if got.Suite.Check() != nil || len(got.Suite.Cases) == 0 {
			t.Fatal("a suite that does not check was made")
		}
	})
}
