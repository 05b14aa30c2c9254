package answer

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// noted reads a chunk and keeps it as the last one.
func noted(t testing.TB, said string) (a alike, c choice) {
	body, err := parseObject([]byte(said))
	require.NoError(t, err)
	choices, err := choicesOf(nil, body)
	require.NoError(t, err)
	require.Len(t, choices, 1)
	a.note([]byte(said), choices[0])
	return a, choices[0]
}

const likeChunk = `{"id":"é","choices":[{"index":3,"delta":{"content":"one"},"finish_reason":null}]}`

func TestOnlyATextOfItsOwnMakesAChunkAlike(t *testing.T) {
	t.Parallel()
	a, _ := noted(t, likeChunk)
	with := func(text string) []byte { return bytes.Replace([]byte(likeChunk), []byte("one"), []byte(text), 1) }
	for text, is := range map[string]bool{
		"one": true, "two words": true, `a \"quote\" and \u00e9`: true, "ü": true, `\\`: true,
		"": false, "\xff": false, "a\nb": false, `\x`: false, `\`: false, `","x":"y`: false, `"`: false, `\u00e`: false,
	} {
		got := a.text(new(reader), with(text))
		require.Equal(t, is, got != nil, text)
		if is {
			require.Equal(t, `"`+text+`"`, string(got))
		}
	}
	require.Nil(t, a.text(new(reader), []byte(`{"id":"é","choices":[{"index":3,"delta":{"content":`)), "shorter than what stands around")
	require.Nil(t, a.text(new(reader), bytes.Replace(with("x"), []byte(`:3,`), []byte(`:4,`), 1)))
	require.Nil(t, new(alike).text(new(reader), []byte(likeChunk)))
	a.note([]byte(`{"choices":[{"delta":{"content":"x"}}]}`), choice{content: span{from: 32, to: 35}})
	require.Equal(t, `"y"`, string(a.text(new(reader), []byte(`{"choices":[{"delta":{"content":"y"}}]}`))), "the last one counts")
}

// What is taken for alike is what reading it whole would have given.
func FuzzAlike(f *testing.F) {
	f.Add(likeChunk)
	f.Add(`{"id":"é","choices":[{"index":3,"delta":{"content":"o\"n\\"},"finish_reason":null}]}`)
	f.Add(`{"id":"é","choices":[{"index":3,"delta":{"content":"","content":"x"},"finish_reason":null}]}`)
	f.Fuzz(func(t *testing.T, data string) {
		a, like := noted(t, likeChunk)
		said := a.text(new(reader), []byte(data))
		if said == nil {
			return
		}
		body, err := parseObject([]byte(data))
		require.NoError(t, err)
		choices, err := choicesOf(nil, body)
		require.NoError(t, err)
		require.Len(t, choices, 1)
		c := choices[0]
		require.Equal(t, string(said), string(c.content.of([]byte(data))))
		require.Equal(t, []any{like.index, like.finish, like.says, like.parts, len(like.thoughts), like.logprobs},
			[]any{c.index, c.finish, c.says, c.parts, len(c.thoughts), c.logprobs})
	})
}
