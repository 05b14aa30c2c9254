package form

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
)

const sample = `
suite: support
seed: 7
capabilities:
  - name: facts
    ask: generate
    score: token-f1
    tags: [faq]
    sampling: {temperature: 0.7, max_tokens: 64, samples: 3}
    files: [cases/facts.jsonl]
    cases:
      - id: capital
        group: geography
        weight: 2
        text: What is the capital of France?
        want: Paris
      - text: How many are there?
        want: [42, "forty-two"]
        human: {said: Many, score: 0}
      - messages:
          - {role: system, content: Be short.}
          - {role: user, content: Who wrote this}
        want: Ann
        split: search
        passages: [Ann wrote it.]
  - name: speed
    ask: generate
    score: latency
    margin: 0.5
    cases: [{text: Say something}]
  - name: numbers
    ask: generate
    score: {name: numeric, settings: {relative: 0.01, take: last}}
    cases: [{text: "1 + 1?", want: 2}]
  - name: choices
    ask: choice
    score: {name: likeliest, settings: {by: bytes}}
    cases: [{text: The sky is, choices: [" blue", " green"], want: " blue"}]
  - name: find
    ask: retrieval
    score: ndcg
    cases: [{text: how to close, relevant: {doc-1: 2, doc-2: 1}}]
  - name: fluency
    ask: likelihood
    score: bits-per-byte
    margin: 0.1
    cases: [{text: A text that stands as it is.}]
`

const facts = `{"id":"line","text":"Which river?","want":["Seine","the Seine"],"tags":["water"],"group":"geography"}

{"text":"Which sea?","want":7}
`

func folder(yaml string) fstest.MapFS {
	return fstest.MapFS{File: {Data: []byte(yaml)}, "cases/facts.jsonl": {Data: []byte(facts)}}
}

func TestASuiteIsReadAsItWasMeant(t *testing.T) {
	t.Parallel()
	s, err := Read(folder(sample), File)
	require.NoError(t, err)
	require.Equal(t, evaluation.SuiteVersion, s.Version)
	require.Equal(t, "support", s.Name)
	require.EqualValues(t, 7, s.Seed)
	require.Len(t, s.Capabilities, 6)
	c := s.Capabilities[0]
	require.Equal(t, "token-f1", c.Metric)
	require.Equal(t, 5, c.Items)
	require.Equal(t, 3, c.Samples())
	require.InDelta(t, 0.05, c.Margin, 0)
	require.False(t, c.Binary())
	require.True(t, s.Capabilities[2].Binary())
	require.Equal(t, "seconds", s.Capabilities[1].Metric)
	require.Equal(t, "ndcg@10", s.Capabilities[4].Metric)
	require.JSONEq(t, `{"relative":0.01,"take":"last"}`, string(s.Capabilities[2].Scorer.Settings))

	require.Equal(t, evaluation.Case{ID: "facts/capital", Capability: "facts", Group: "geography", Weight: 2, Text: "What is the capital of France?", Want: "Paris"}, s.Cases[0])
	require.Equal(t, []string{"42", "forty-two"}, s.Cases[1].References())
	require.Equal(t, s.Cases[1].ID, s.Cases[1].Group)
	require.Regexp(t, `^facts/[0-9a-f]{16}$`, s.Cases[1].ID)
	require.Equal(t, "Who wrote this", s.Cases[2].Text)
	require.Equal(t, []evaluation.Message{{Role: "system", Content: "Be short."}}, s.Cases[2].Messages)
	require.Equal(t, "facts/line", s.Cases[3].ID)
	require.Equal(t, []string{"Seine", "the Seine"}, s.Cases[3].References())
	require.Equal(t, []string{"7"}, s.Cases[4].References())

	gate, err := s.Only(evaluation.GateSplit)
	require.NoError(t, err)
	require.Len(t, gate.Cases, len(s.Cases)-1)
	require.Equal(t, 4, gate.Capabilities[0].Items)
	require.NoError(t, gate.Check())
	search, err := s.Only(evaluation.SearchSplit)
	require.NoError(t, err)
	require.Len(t, search.Cases, 1)
	require.NoError(t, search.Check())
	_, err = gate.Only(evaluation.SearchSplit)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
}

type tree struct{ fstest.MapFS }

type file struct {
	bytes.Buffer
	close func([]byte)
}

func (f *file) Close() error { f.close(f.Bytes()); return nil }

func (m tree) Create(name string) (io.WriteCloser, error) {
	return &file{close: func(b []byte) { m.MapFS[name] = &fstest.MapFile{Data: bytes.Clone(b)} }}, nil
}

func TestASuiteBecomesTheSameTreeAndIsReadBack(t *testing.T) {
	t.Parallel()
	s, err := Read(folder(sample), File)
	require.NoError(t, err)
	write := func(s evaluation.Suite) tree {
		to := tree{fstest.MapFS{}}
		require.NoError(t, s.Write(to))
		return to
	}
	once := write(s)
	read, err := evaluation.ReadSuite(once.MapFS)
	require.NoError(t, err)
	require.Equal(t, once, write(read))
	require.Equal(t, s.Cases, read.Cases)
}

func TestASuiteIsWrittenAsPeopleWriteIt(t *testing.T) {
	t.Parallel()
	s, err := Read(folder(sample), File)
	require.NoError(t, err)
	to := tree{fstest.MapFS{}}
	require.NoError(t, Write(s, to))
	require.Contains(t, string(to.MapFS[File].Data), "    score: token-f1\n")
	again, err := Read(to.MapFS, File)
	require.NoError(t, err)
	digest, err := s.Digest()
	require.NoError(t, err)
	same, err := again.Digest()
	require.NoError(t, err)
	require.Equal(t, digest, same)
	require.Equal(t, s.Cases, again.Cases)
}

func TestAnIDIsOfWhatIsAskedAndNotOfWhatIsRight(t *testing.T) {
	t.Parallel()
	id := func(yaml string) string {
		s, err := Read(folder("suite: s\ncapabilities: [{name: c, ask: generate, score: exact, cases: ["+yaml+"]}]"), File)
		require.NoError(t, err)
		return s.Cases[0].ID
	}
	require.Equal(t, id("{text: a, want: b}"), id("{text: a, want: c, weight: 3, tags: [x], group: g}"))
	require.NotEqual(t, id("{text: a, want: b}"), id("{text: b, want: b}"))
	require.NotEqual(t, id("{text: a, want: b}"), id("{text: a, want: b, passages: [p]}"))
}

func TestFaultsAreToldWithFileAndLine(t *testing.T) {
	t.Parallel()
	swap := func(old, new string) func(fstest.MapFS) {
		return func(f fstest.MapFS) {
			for _, file := range f {
				file.Data = bytes.Replace(file.Data, []byte(old), []byte(new), 1)
			}
		}
	}
	for what, tc := range map[string]struct {
		spoil func(fstest.MapFS)
		want  []string
	}{
		"an unknown field":         {swap("weight: 2", "wieght: 2"), []string{`suite.yaml:14: unknown field "wieght"`, "id, group, weight, tags"}},
		"an unknown field above":   {swap("seed: 7", "sead: 7"), []string{`suite.yaml:3: unknown field "sead"; the fields are suite, seed, split, capabilities`}},
		"of a scorer":              {swap("{name: numeric, settings:", "{name: numeric, setings:"), []string{`unknown field "setings"; the fields are name, settings`}},
		"of a scorer's settings":   {swap("relative: 0.01", "relativ: 0.01"), []string{"suite.yaml:31: ", `unknown field "relativ"; the fields are absolute, relative, take`}},
		"of a line":                {swap(`"group":"geo`, `"gruop":"geo`), []string{`cases/facts.jsonl:1: json: unknown field "gruop"`, "id, group"}},
		"a wrong type":             {swap("weight: 2", "weight: two"), []string{`suite.yaml:14: no whole number`}},
		"no YAML":                  {swap("suite: support", "suite: [support"), []string{"suite.yaml:"}},
		"a second document":        {func(f fstest.MapFS) { f[File].Data = append(f[File].Data, "---\nsuite: x\n"...) }, []string{"a second document"}},
		"an alias":                 {swap("[faq]", "&t [faq]\n    split: *t"), []string{"suite.yaml:9: an alias"}},
		"no name":                  {swap("suite: support", "suite: Support!"), []string{"suite.yaml:1: suite:"}},
		"an unknown scorer":        {swap("score: token-f1", "score: vibes"), []string{"suite.yaml:5: ", `"vibes"`, "exact, normalised"}},
		"no scorer":                {swap("    score: token-f1\n", ""), []string{"suite.yaml:5: score: none"}},
		"a scorer of another kind": {swap("score: token-f1", "score: ndcg"), []string{"suite.yaml:5: score: ndcg; it looks at retrieval"}},
		"an unknown kind":          {swap("ask: choice", "ask: guess"), []string{`ask: "guess"`}},
		"no margin":                {swap("    margin: 0.5\n", ""), []string{"margin: none; say what drop of seconds"}},
		"a margin of 0":            {swap("margin: 0.5", "margin: 0"), []string{"suite.yaml:26: margin: 0"}},
		"a reference is missing":   {swap("        want: Paris\n", ""), []string{"suite.yaml:12: want: none"}},
		"a reference of no number": {swap("want: 2}", "want: two}"), []string{"suite.yaml:34: scorer numeric; want: a reference is no number"}},
		"a choice that is wrong":   {swap(`want: " blue"`, "want: red"), []string{"choices"}},
		"an ID twice":              {swap(`"id":"line"`, `"id":"capital"`), []string{`cases/facts.jsonl:1: id: "facts/capital"`}},
		"the same question twice":  {swap("Which sea?", "How many are there?"), []string{"cases/facts.jsonl:3: id:"}},
		"a group in both splits":   {swap("split: search", "split: search\n        group: geography"), []string{"a group belongs to one"}},
		"an unknown split":         {swap("split: search", "split: test"), []string{`split: "test"; give gate or search`}},
		"a weight of a half":       {swap("weight: 2", "weight: 1.5"), []string{"suite.yaml:14: "}},
		"a weight too large":       {swap("weight: 2", "weight: 1000"), []string{"suite.yaml:12: weight: 1000"}},
		"a file that is not there": {swap("cases/facts.jsonl", "other.jsonl"), []string{`suite.yaml:5: files: "other.jsonl" cannot be read`}},
		"a file elsewhere":         {swap("cases/facts.jsonl", "../facts.jsonl"), []string{"give a path below the suite's folder"}},
		"a chat of the assistant":  {swap("{role: user, content: Who", "{role: assistant, content: Who"), []string{"not ended by the user"}},
		"a role":                   {swap("{role: system,", "{role: boss,"), []string{`messages[0].role: "boss"`}},
		"no text":                  {swap("text: What is the capital of France?", "text: ' '"), []string{"suite.yaml:12: text: none"}},
		"a line that goes on":      {swap(`"want":7}`, `"want":7} {}`), []string{"cases/facts.jsonl:3: something follows"}},
		"a line too long":          {swap("Which sea?", strings.Repeat("x", maxLine)), []string{"token too long"}},
		"a capability twice":       {swap("name: speed", "name: facts"), []string{"suite.yaml:26: name:"}},
		"no capability":            {func(f fstest.MapFS) { f[File].Data = []byte("suite: s\n") }, []string{"capabilities: none"}},
		"nothing":                  {func(f fstest.MapFS) { f[File].Data = nil }, []string{"suite.yaml:1:"}},
		"no file":                  {func(f fstest.MapFS) { delete(f, File) }, []string{"suite.yaml: it cannot be read"}},
		"too large":                {func(f fstest.MapFS) { f[File].Data = bytes.Repeat([]byte("#\n"), maxYAML) }, []string{"put cases into files of JSONL"}},
		"a temperature":            {swap("temperature: 0.7", "temperature: 7"), []string{"suite.yaml:5: sampling.temperature: 7"}},
		"a value of another type":  {swap("margin: 0.5", "margin: secret"), []string{"suite.yaml:29: cannot unmarshal !!str a value into float64"}},
		"asked in both splits":     {swap("      - messages:", "      - {id: twin, text: \"Which sea?\", want: x, split: search}\n      - messages:"), []string{"cases/facts.jsonl:3: split: gate; the same is asked in the split search"}},
		"sampled likelihood":       {swap("margin: 0.1\n", "margin: 0.1\n    sampling: {samples: 2}\n"), []string{"only generate is sampled"}},
		"gates are asked nothing":  {swap("{text: \"1 + 1?\", want: 2}", "{text: \"1 + 1?\", want: 2, split: search}"), []string{"give gates cases of it"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := folder(sample)
			tc.spoil(f)
			_, err := Read(f, File)
			require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(sample), []byte(facts))
	f.Add([]byte("suite: s\ncapabilities: [{name: c, ask: generate, score: exact, cases: [{text: a, want: b}]}]"), []byte(`{"text":1}`))
	f.Add([]byte("a: &a [*a]"), []byte(nil))
	f.Fuzz(func(t *testing.T, yaml, lines []byte) {
		s, err := Read(fstest.MapFS{File: {Data: yaml}, "cases/facts.jsonl": {Data: lines}}, File)
		if err == nil && (s.Check() != nil || len(s.Cases) == 0) {
			t.Fatal("a suite was read that does not check")
		}
		if err != nil && !lifecycle.Is(err, lifecycle.Invalid) {
			t.Fatalf("an error of another kind: %v", err)
		}
	})
}
