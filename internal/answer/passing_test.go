package answer

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// denying is a release whose rules change nothing in the answers of these tests, but look at all of them.
func denying(r *lifecycle.Release) {
	r.PostProcess = []lifecycle.Rule{{Kind: lifecycle.RuleDenyPattern, Value: "zzz"}}
}

func TestWholeAnswersOfEveryShapePassByteByByte(t *testing.T) {
	t.Parallel()
	for what, said := range map[string]string{
		"tool calls":       `{"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\": 1.0}"}}]},"finish_reason":"tool_calls"}]}`,
		"several choices":  `{"choices":[{"index":1,"message":{"content":"b"},"finish_reason":"stop"},{"index":0,"message":{"content":"a"},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
		"number text":      `{"created":1e9,"choices":[{"message":{"content":"\u0061\/"},"index":0,"finish_reason":null}],"x":-0.0,"y":1.0E+2}`,
		"white space":      "{ \"choices\" :\t[ {\r\n\"index\":0 , \"text\":\"t\" } ]\n}\n",
		"a refusal":        `{"choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":"no"},"finish_reason":"stop"}]}`,
		"a function call":  `{"choices":[{"index":0,"message":{"content":null,"function_call":{"name":"f","arguments":"{"}},"finish_reason":"function_call"}]}`,
		"audio":            `{"choices":[{"index":0,"message":{"content":null,"audio":{"id":"a","data":"AAAA","transcript":"hi"}},"finish_reason":"stop"}]}`,
		"annotations":      `{"choices":[{"index":0,"message":{"content":"see","annotations":[{"type":"url_citation","url_citation":{"url":"http://x","start_index":0}}]},"finish_reason":"stop"}]}`,
		"log probabilites": `{"choices":[{"index":0,"message":{"content":"hi"},"logprobs":{"content":[{"token":"hi","logprob":-0.10,"bytes":[104,105],"top_logprobs":[]}]},"finish_reason":"stop"}]}`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			m := newModelServer(t, saying(said))
			c, _, err := ask(t, ready(t, nil, nil), m, Chat, `{"messages":[{"role":"user","content":"x"}]}`)
			require.NoError(t, err)
			require.Equal(t, said, c.body.String())
			if !strings.Contains(said, "logprobs") {
				c, _, err = ask(t, ready(t, denying, nil), m, Chat, `{"messages":[{"role":"user","content":"x"}]}`)
				require.NoError(t, err)
				require.Equal(t, said, c.body.String(), "a rule that does not match changes nothing")
			}
		})
	}
}

func TestChunksOfEveryShapePassByteByByte(t *testing.T) {
	t.Parallel()
	event := func(data string) string { return "data: " + data + "\n\n" }
	pieces := []string{
		event(`{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null},{"index":1,"delta":{"role":"assistant"}}],"usage":null}`),
		event(`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":""}}]}}]}`),
		event(`{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"zz"}}]},"logprobs":null}]}`),
		"id: 7\nretry: 10\n: kept\n" + event(`{"id":"c","choices":[{"index":1,"delta":{"content":null}}], "n":1.50}`),
		event(`{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"},{"index":1,"delta":{},"finish_reason":"stop"}]}`),
		ending,
	}
	m := newModelServer(t, streaming(pieces...))
	for _, change := range []func(*lifecycle.Release){nil, denying} {
		c, result, err := ask(t, ready(t, change, nil), m, Chat, asking)
		require.NoError(t, err)
		require.Equal(t, strings.Join(pieces, ""), c.body.String())
		require.Equal(t, "tool_calls", result.Finish)
		require.Positive(t, result.Latency.FirstToken, "a tool call is a first token, too")
	}
}

func TestUsageIsShownOnlyToWhoAsked(t *testing.T) {
	t.Parallel()
	// Servers that count as they go put the usage beside the text.
	going := `data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":4,"completion_tokens":1}}` + "\n\n"
	bare := `data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}` + "\n\n"
	m := newModelServer(t, streaming(going, stop, usage, ending))
	c, result, err := ask(t, ready(t, nil, nil), m, Chat, asking)
	require.NoError(t, err)
	require.Equal(t, bare+stop+ending, c.body.String())
	require.Equal(t, lifecycle.Usage{Prompt: 4, Completion: 5}, result.Usage)
	c, _, err = ask(t, ready(t, nil, nil), m, Chat, strings.Replace(asking, `{`, `{"stream_options":{"include_usage":true},`, 1))
	require.NoError(t, err)
	require.Equal(t, going+stop+usage+ending, c.body.String())
}

func TestAChangedEventKeepsItsOtherLines(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, streaming(
		"\xef\xbb\xbfid: 1\r\n: note\r\nevent: x\r\ndata: {\"choices\":[{\"index\":0,\r\ndata: \"delta\":{\"content\":\" a\"}}]}\r\n\r\n", stop, ending,
	))
	c, _, err := ask(t, ready(t, func(r *lifecycle.Release) { r.PostProcess = []lifecycle.Rule{{Kind: "trim"}} }, nil), m, Chat, asking)
	require.NoError(t, err)
	require.Equal(t, "id: 1\r\n: note\r\nevent: x\r\ndata: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"a\"}}]}\n\r\n"+stop+ending, c.body.String())
}

func TestEveryChoiceIsEndedOnce(t *testing.T) {
	t.Parallel()
	both := func(a, b string) string {
		return `data: {"choices":[{"index":0,"delta":{"content":"` + a + `"}},{"index":1,"delta":{"content":"` + b + `"}}]}` + "\n\n"
	}
	ends := `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"},{"index":1,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":9}}` + "\n\n"
	m := newModelServer(t, streaming(both("aaaa", "bbbb"), both("a", "b"), ends, ending))
	cut := func(r *lifecycle.Release) { r.PostProcess = []lifecycle.Rule{{Kind: "max-length", Value: "3"}} }
	c, _, err := ask(t, ready(t, cut, nil), m, Chat, strings.Replace(asking, `{`, `{"stream_options":{"include_usage":true},`, 1))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(c.body.String(), `"finish_reason":"length"`), "both choices say that they were cut")
	require.Contains(t, c.body.String(), `data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":9}}`, "usage that was asked for outlives the choices")
	require.NotContains(t, c.body.String(), `"stop"`)

	m = newModelServer(t, streaming(both("aaaa", "b"), both("a", "b"), ends, ending))
	c, _, err = ask(t, ready(t, cut, nil), m, Chat, asking)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(c.body.String(), `"finish_reason":"length"`))
	require.Contains(t, c.body.String(), `data: {"choices":[{"index":1,"delta":{"content":"b"}}]}`, "what goes on in the other choice passes alone")
	require.Contains(t, c.body.String(), `data: {"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`)
}

func TestWhatARuleHidesIsShownNowhereElse(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, saying(`{"choices":[{"index":0,"message":{"content":"ok","reasoning_content":"the zzz","reasoning":""},"finish_reason":"stop"}]}`))
	c, _, err := ask(t, ready(t, denying, nil), m, Chat, `{"messages":[{"role":"user","content":"x"}]}`)
	require.NoError(t, err)
	require.Equal(t, `{"choices":[{"index":0,"message":{"content":"ok","reasoning_content":null,"reasoning":""},"finish_reason":"stop"}]}`, c.body.String())

	m = newModelServer(t, saying(`{"choices":[{"index":0,"message":{"content":[{"type":"text","text":"zzz"}]},"finish_reason":"stop"}]}`))
	_, _, err = ask(t, ready(t, denying, nil), m, Chat, `{"messages":[{"role":"user","content":"x"}]}`)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "a text in a form that the rules cannot read: %v", err)
	c, _, err = ask(t, ready(t, nil, nil), m, Chat, `{"messages":[{"role":"user","content":"x"}]}`)
	require.NoError(t, err)
	require.Contains(t, c.body.String(), "zzz", "without rules it passes")
}

// However a body spells what Refit owns, a server with another parser reads the same, or the body is refused.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"model":"docs","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}]}`))
	f.Add([]byte(`{"model":"docs","prompt":[1,2,3],"MODEL":"x"}`))
	f.Add([]byte(`{"model":"docs","mod\u0065l":"x","input":"a"}`))
	f.Add([]byte("{\"model\":\"docs\",\"\u017ftream\":true,\"prompt\":\"a\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, endpoint := range []string{Chat, Completions, Embeddings} {
			a, err := Read(endpoint, body)
			if err != nil {
				require.True(t, lifecycle.Is(err, lifecycle.Invalid))
				continue
			}
			// encoding/json takes the last of two keys, and keys in any case.
			var said struct {
				Model    string `json:"model"`
				Stream   bool   `json:"stream"`
				Messages []struct {
					Role string `json:"role"`
				} `json:"messages"`
			}
			if json.Unmarshal(body, &said) != nil {
				continue // it minds types that are the model server's to mind
			}
			require.Equal(t, said.Model, a.Model())
			if endpoint != Embeddings {
				require.Equal(t, said.Stream, a.stream)
			}
			if endpoint == Chat {
				require.Len(t, a.messages, len(said.Messages))
			}
		}
	})
}
