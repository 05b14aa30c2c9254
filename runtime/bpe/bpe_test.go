package bpe

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const prose = "The client's Do method sends an HTTP request and returns an HTTP response.\n\n\tresp, err := client.Do(req)\n" +
	"  It's an error if the client doesn't follow the request's policy; we'll see 1234 numbers, naïve façades and 日本語. "

func learned(t testing.TB, size int) *Tokenizer {
	t.Helper()
	tok, err := Learn(slices.Values([]string{strings.Repeat(prose, 3), prose}), size)
	require.NoError(t, err)
	return tok
}

func TestWordsAreGPT2s(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"Hello world":      {"Hello", " world"},
		"it's we'll":       {"it", "'s", " we", "'ll"},
		"a  b":             {"a", " ", " b"},
		"a\n\n\tb":         {"a", "\n\n", "\t", "b"},
		"x   ":             {"x", "   "},
		"http.Do(12)":      {"http", ".", "Do", "(", "12", ")"},
		" ":                {" "},
		"  x":              {" ", " x"},
		"é日 \u00a0x":       {"é日", " ", "\u00a0", "x"},
		"\xff\xfea":        {"\xff\xfe", "a"},
		"'sx":              {"'s", "x"},
		"don' t":           {"don", "'", " t"},
		"\tfoo":            {"\t", "foo"},
		"\n foo":           {"\n", " foo"},
		"one\u3000\u3000x": {"one", "\u3000", "\u3000", "x"},
	} {
		var got []string
		for rest := text; rest != ""; {
			n := nextWord(rest)
			got = append(got, rest[:n])
			rest = rest[n:]
		}
		require.Equal(t, want, got, "%q", text)
	}
}

func TestLearnIsDeterministicAndShortens(t *testing.T) {
	t.Parallel()
	a, b := learned(t, 320), learned(t, 320)
	require.Equal(t, a, b)
	require.Equal(t, 320, a.Size())
	require.Less(t, len(a.Encode(prose)), len(prose)*3/4)
}

// The slow and obvious learner counts all pairs anew before each merge.
func TestIncrementalCountsEqualRecounting(t *testing.T) {
	t.Parallel()
	fast := learned(t, 330)
	counts := map[string]int{}
	for rest := strings.Repeat(prose, 4); rest != ""; {
		n := nextWord(rest)
		counts[rest[:n]]++
		rest = rest[n:]
	}
	l := newLearner(counts)
	for i, m := range fast.merges {
		recount := map[pair]int{}
		for _, w := range l.words {
			for k := 1; k < len(w.tokens); k++ {
				recount[pair{w.tokens[k-1], w.tokens[k]}] += w.count
			}
		}
		var best counted
		for p, n := range recount {
			if c := (counted{p, n}); best.count == 0 || (pairQueue{c, best}).Less(0, 1) {
				best = c
			}
		}
		require.Equal(t, best.pair, m, "merge %d", i)
		for k := range l.words {
			l.words[k].tokens = replace(l.words[k].tokens, m, firstMerge+i)
		}
	}
}

func TestLearnStopsWhenNothingRepeats(t *testing.T) {
	t.Parallel()
	tok, err := Learn(slices.Values([]string{"abc"}), 1000)
	require.NoError(t, err)
	require.Equal(t, firstMerge, tok.Size())
	_, err = Learn(slices.Values([]string{"abc"}), 10)
	require.Error(t, err)
}

func TestFileRoundTrip(t *testing.T) {
	t.Parallel()
	tok := learned(t, 300)
	path := filepath.Join(t.TempDir(), File)
	require.NoError(t, tok.WriteFile(path))
	again, err := ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, tok, again)

	raw, err := json.Marshal(tok)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"Ġ`, "a space is shown as GPT-2 shows it")
	for name, broken := range map[string]string{
		"normalizer":   strings.Replace(string(raw), `"normalizer":null`, `"normalizer":{"type":"NFC"}`, 1),
		"model":        strings.Replace(string(raw), `"type":"BPE"`, `"type":"Unigram"`, 1),
		"prefix space": strings.Replace(string(raw), `"add_prefix_space":false`, `"add_prefix_space":true`, 1),
		"lost merge":   strings.Replace(string(raw), `"merges":[[`, `"merges":[["x","y"],[`, 1),
	} {
		require.NotEqual(t, string(raw), broken, name)
		require.Error(t, json.Unmarshal([]byte(broken), new(Tokenizer)), name)
	}
}

func TestCompleteCutsNoRune(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"": "", "abc": "abc", "日": "日", "a\xe6\x97": "a", "a\xe6": "a", "a\xff": "a\xff", "\xf0\x9f\x98": "", "x\x80\x80\x80\x80": "x\x80\x80\x80\x80",
	} {
		require.Equal(t, want, Complete(s), "%q", s)
	}
}

func TestUnknownTokensAreEmpty(t *testing.T) {
	t.Parallel()
	tok := learned(t, 300)
	require.Empty(t, tok.Decode([]int{-1, EndOfText, 1 << 20}))
}

func FuzzRoundTrip(f *testing.F) {
	tok := learned(f, 400)
	for _, s := range []string{prose, "", " ", "\x00\xff", "日本 語", strings.Repeat("a", 2000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tokens := tok.Encode(s)
		require.Equal(t, s, tok.Decode(tokens))
		require.Equal(t, tokens, append([]int{}, tok.Encoder().AppendTo(nil, s)...))
		if utf8.ValidString(s) {
			require.Equal(t, s, Complete(s))
		}
	})
}

// What was learned of any text can be written and read again.
func FuzzLearn(f *testing.F) {
	for _, s := range []string{prose, strings.Repeat("aaaaaaa aaaa", 9), "abcabc zabzabc abcdabcd bcdbc\xff\xff\xff\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := Learn(slices.Values([]string{s, s}), 400)
		require.NoError(t, err)
		raw, err := json.Marshal(tok)
		require.NoError(t, err)
		var again Tokenizer
		require.NoError(t, json.Unmarshal(raw, &again))
		require.Equal(t, tok.Encode(s), again.Encode(s))
		require.Equal(t, s, again.Decode(again.Encode(s)))
	})
}

func FuzzUnmarshal(f *testing.F) {
	raw, err := json.Marshal(learned(f, 280))
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var tok Tokenizer
		if json.Unmarshal(raw, &tok) == nil {
			require.Equal(t, "hi é", tok.Decode(tok.Encode("hi é")))
		}
	})
}
