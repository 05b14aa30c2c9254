package lifecycle_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

const smallest = `{"service": "docs", "serving": {"engine": "static", "endpoints": [{"url": "http://127.0.0.1:1"}]}}`

func TestParseServiceFillsInDefaults(t *testing.T) {
	t.Parallel()
	s, err := lifecycle.ParseService([]byte(smallest))
	require.NoError(t, err)
	var shares []lifecycle.BasisPoints
	for _, step := range s.Rollout.Steps {
		shares = append(shares, step.Share)
		require.Positive(t, step.MinConversations, "no step passes on the clock alone")
		require.Greater(t, step.Margin, 1.0)
	}
	require.Equal(t, []lifecycle.BasisPoints{100, 500, 2500, 5000, 9500}, shares)
	require.Equal(t, "errors", s.Rollout.Metrics[0].Name)
	require.True(t, s.Rollout.Metrics[0].Required)
	require.Equal(t, "metadata", s.Capture.Content, "prompts and answers are kept only where the service asks for it")
	require.Equal(t, "roll-back", s.Rollout.AtBound)

	raw, err := json.Marshal(s)
	require.NoError(t, err)
	again, err := lifecycle.ParseService(raw)
	require.NoError(t, err)
	require.Equal(t, s.Digest(), again.Digest(), "a stored declaration is the same when it is read")
}

func TestWithDefaultsChangesNothingOfTheCallers(t *testing.T) {
	t.Parallel()
	s := lifecycle.Service{Name: "docs", Rollout: lifecycle.RolloutPolicy{Steps: []lifecycle.StepPolicy{{Share: 500}}}}
	_ = s.WithDefaults()
	require.Zero(t, s.Rollout.Steps[0].MinConversations)
}

func TestParseServiceIsStrict(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"unknown field":    `{"service": "docs", "relaese": {}}`,
		"wrong type":       `{"service": 5}`,
		"text after it":    smallest + `}`,
		"a second service": smallest + smallest,
		"a bare number":    `{"service": "docs", "training": {"max_time": 90}}`,
		"nothing":          ``,
	} {
		_, err := lifecycle.ParseService([]byte(text))
		require.Truef(t, lifecycle.Is(err, lifecycle.Invalid), "%s: %v", name, err)
	}
}

func TestASuiteLiesInOnePlace(t *testing.T) {
	t.Parallel()
	for source, fault := range map[string]string{
		`{"folder": "/data/suites"}`: "", `{"s3": "suites/support"}`: "", `{}`: "",
		`{"folder": "/data", "s3": "x"}`: "evaluation.suite: ", `{"folder": "suites"}`: "evaluation.suite.folder", `{"folder": "/data/../x"}`: "evaluation.suite.folder",
		`{"s3": "/suites"}`: "evaluation.suite.s3", `{"s3": "../x"}`: "evaluation.suite.s3", `{"s3": "suites/"}`: "evaluation.suite.s3", `{"url": "x"}`: "unknown field",
	} {
		_, err := lifecycle.ParseService([]byte(strings.TrimSuffix(smallest, "}") + `, "evaluation": {"suite": ` + source + `}}`))
		if fault == "" {
			require.NoError(t, err, source)
			continue
		}
		require.ErrorContains(t, err, fault, source)
	}
}

func TestAShadowStepIsDeclaredWithARollout(t *testing.T) {
	t.Parallel()
	for step, fault := range map[string]string{
		`{}`: "",
		`{"scorer": {"name": "judge-pairwise", "settings": {"judge": "large"}}, "required": true}`: "",
		`{"scorer": {"name": "latency"}}`:         "rollout.shadow.scorer.name",
		`{"required": true}`:                      "rollout.shadow.required",
		`{"tolerated": 0.3, "margin": 0.2}`:       "rollout.shadow: ",
		`{"scorers": {"name": "judge-pairwise"}}`: "unknown field",
	} {
		s, err := lifecycle.ParseService([]byte(strings.TrimSuffix(smallest, "}") + `, "capture": {"content": "full"}, "rollout": {"shadow": ` + step + `}}`))
		if fault != "" {
			require.ErrorContains(t, err, fault, step)
			continue
		}
		require.NoError(t, err, step)
		require.Equal(t, lifecycle.Whole, s.Rollout.Shadow.Share)
		require.EqualValues(t, 100, s.Rollout.Shadow.MinPairs)
	}
	_, err := lifecycle.ParseService([]byte(strings.TrimSuffix(smallest, "}") + `, "rollout": {"shadow": {"scorer": {"name": "safe"}}}}`))
	require.ErrorContains(t, err, "rollout.shadow.scorer: without answers to score; give capture.content: full")
	_, err = lifecycle.ParseService([]byte(strings.TrimSuffix(smallest, "}") + `, "rollout": {"shadow": {}, "metrics": [{"name": "thumbs-down"}]}}`))
	require.ErrorContains(t, err, "rollout.shadow: nothing to watch")
	s, err := lifecycle.ParseService([]byte(smallest))
	require.NoError(t, err)
	require.Nil(t, s.Rollout.Shadow)
	require.Empty(t, s.Rollout.Watched())
}

func TestServiceCheckNamesEveryFault(t *testing.T) {
	t.Parallel()
	_, err := lifecycle.ParseService([]byte(`{
		"service": "Docs Assistant",
		"serving": {"engine": "static", "endpoints": [{"url": "ftp://x"}, {"url": "https://me:hunter2@host"}], "api_key": "sk-12345", "capacity": -1, "time_limit": "-1s", "first_byte": "25h"},
		"corpora": {"base": {"sources": [{"kind": "go-modules"}, {"kind": "folder", "path": "../x"}, {"kind": "web"}], "held_out": 0.9, "max_dropped": 2}},
		"training": {"contamination": {"action": "forgive", "ngram": 3, "similarity": 0.2}},
		"retrieval": {"corpora": ["fresh"], "chunk": 100, "overlap": 100},
		"evaluation": {"batches_at_once": 65, "agreement": {"minimum": 1.5, "labels": 3}, "capabilities": [{"name": "a", "kind": "vibes", "corpus": "base"}, {"name": "a", "kind": "cloze", "corpus": "none", "items": -1, "margin": -1}]},
		"rollout": {"steps": [{"share_bp": 5000}, {"share_bp": 500}, {"share_bp": 10000, "min_conversations": -1, "max_time": "-1s", "margin": 0.5}],
			"metrics": [{"name": "mood"}, {"name": "errors", "tolerated": 0.5}], "exposure": {"band": 0.5}, "at_bound": "shrug",
			"shadow": {"share_bp": 20000, "min_pairs": -1, "max_time": "-1s", "required": true, "margin": 2, "weight": -1, "at_once": 100, "deadline": "1h"}},
		"shadow": {"release": "abc", "share_bp": 20000, "at_once": 100, "deadline": "1h"},
		"feedback": {"max_share": 2},
		"capture": {"content": "all", "sample": 0, "retention": "1h", "redact": {"kinds": ["names"], "patterns": ["a*"]}},
		"release": {"parameters": {"top_p": 7}},
		"cadences": [{"loop": "promotion", "cron": "daily", "overlap": "queue", "jitter": "-1s"}]
	}`))
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	for _, path := range []string{
		"training.contamination.action", "evaluation.batches_at_once", "evaluation.agreement.minimum", "evaluation.agreement.labels", "training.contamination.ngram", "training.contamination.similarity",
		"rollout.shadow", "rollout.shadow.share_bp", "rollout.shadow.min_pairs", "rollout.shadow.max_time", "rollout.shadow.required",
		"rollout.shadow.weight", "rollout.shadow.at_once", "rollout.shadow.deadline",
		"shadow.release", "shadow.share_bp", "shadow.at_once", "shadow.deadline",
		"service", "serving.endpoints[0].url", "serving.endpoints[1].url", "serving.api_key", "serving.capacity", "serving.time_limit", "serving.first_byte",
		"corpora.base.sources[0].modules", "corpora.base.sources[1].path", "corpora.base.sources[2].kind", "corpora.base.held_out",
		"corpora.base.max_dropped", "retrieval.corpora[0]", "retrieval.chunk", "evaluation.capabilities[0].kind",
		"evaluation.capabilities[1].name", "evaluation.capabilities[1].corpus", "evaluation.capabilities[1].items",
		"evaluation.capabilities[1].margin", "rollout.steps[1].share_bp", "rollout.steps[2].share_bp",
		"rollout.steps[2].min_conversations", "rollout.steps[2].max_time", "rollout.steps[2].margin", "rollout.metrics[0].name",
		"rollout.metrics[1]", "rollout.exposure", "rollout.at_bound", "feedback", "capture.content", "capture.sample", "capture.retention", "capture.redact.kinds[0]", "capture.redact.patterns[0]", "release.parameters.top_p",
		"cadences[0].loop", "cadences[0].cron", "cadences[0].overlap", "cadences[0].jitter",
	} {
		require.ErrorContains(t, err, "  "+path+": ")
	}
	require.NotContains(t, err.Error(), "hunter2", "a secret is never repeated")
	require.NotContains(t, err.Error(), "sk-12345", "a secret is never repeated")
}

// What is accepted has its defaults, is the same when it is written and read, and never panics.
func FuzzParseService(f *testing.F) {
	f.Add([]byte(smallest))
	schema, err := os.ReadFile("../../configs/service.schema.json")
	require.NoError(f, err)
	f.Add(schema)
	f.Add([]byte(`{"service": "docs", "rollout": {"steps": [{"share_bp": 500, "max_time": "1h"}]}, "cadences": [{"loop": "index", "cron": "* * * * *"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := lifecycle.ParseService(text)
		if err != nil {
			require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(err))
			return
		}
		raw, err := json.Marshal(s)
		require.NoError(t, err)
		again, err := lifecycle.ParseService(raw)
		require.NoError(t, err)
		require.Equal(t, s.Digest(), again.Digest())
	})
}
