package answer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestMostTokens(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		endpoint, body string
		parameters     lifecycle.Parameters
		want           int64
	}{
		"nobody names a limit":         {Chat, `"messages":[{"role":"user","content":"x"}]`, lifecycle.Parameters{}, 1000},
		"the client does":              {Chat, `"messages":[{"role":"user","content":"x"}],"max_tokens":7`, lifecycle.Parameters{}, 7},
		"the release does":             {Chat, `"messages":[{"role":"user","content":"x"}]`, lifecycle.Parameters{MaxTokens: 30}, 30},
		"the smaller one holds":        {Chat, `"messages":[{"role":"user","content":"x"}],"max_completion_tokens":70`, lifecycle.Parameters{MaxTokens: 30}, 30},
		"but where clients may choose": {Chat, `"messages":[{"role":"user","content":"x"}],"max_tokens":70`, lifecycle.Parameters{MaxTokens: 30, Override: true}, 70},
		"both names":                   {Chat, `"messages":[{"role":"user","content":"x"}],"max_tokens":70,"max_completion_tokens":60`, lifecycle.Parameters{}, 60},
		"several choices":              {Chat, `"messages":[{"role":"user","content":"x"}],"max_tokens":7,"n":3`, lifecycle.Parameters{}, 21},
		"the best of several":          {Completions, `"prompt":"x","max_tokens":7,"n":2,"best_of":5`, lifecycle.Parameters{}, 35},
		"several prompts":              {Completions, `"prompt":["x","y","z"],"max_tokens":7`, lifecycle.Parameters{}, 21},
		"a prompt of token numbers":    {Completions, `"prompt":[1,2,3],"max_tokens":7`, lifecycle.Parameters{}, 7},
		"several of them":              {Completions, `"prompt":[[1,2],[3]],"max_tokens":7`, lifecycle.Parameters{}, 14},
		"a score":                      {Completions, `"prompt":"x","max_tokens":0,"echo":true`, lifecycle.Parameters{}, 0},
		"no number that can overflow":  {Completions, `"prompt":"x","max_tokens":9000000000000000000,"n":9000000000000000000`, lifecycle.Parameters{}, 1 << 40},
		"embeddings":                   {Embeddings, `"input":"x"`, lifecycle.Parameters{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := Read(tc.endpoint, []byte(`{"model":"docs",`+tc.body+`}`))
			require.NoError(t, err)
			b := Bundle{Release: lifecycle.Release{Parameters: tc.parameters}}
			require.Equal(t, tc.want, b.MostTokens(a, 1000))
		})
	}
}
