package answer

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestDepthIsBounded(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return []byte(strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`]}`, n/2)) }
	require.True(t, valid(nested(maxDepth)))
	require.False(t, valid(nested(maxDepth+2)))
	_, err := parseObject(nested(100_000))
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
}

func valid(doc []byte) bool { return (&reader{doc: doc}).valid() }

func FuzzValid(f *testing.F) {
	for _, doc := range []string{
		``, ` `, `{}`, `[]`, `{"a":1,"b":[true,false,null]}`, `{"a":1,}`, `[1,]`, `{,}`, `{"a"}`, `{a:1}`, `"\ud800"`, `"\u12g4"`,
		`-`, `-0`, `01`, `1.`, `.5`, `1e`, `1e+`, `1E-05`, `0x1`, `nul`, `nulll`, `true false`, "\"\x01\"", "\"\xff\"", `"\x"`, `"`,
		"\ufeff{}", `[[[[]]]]`, `{"a":{"b":[{}]}} `, `1 2`, `NaN`, `"\`, `"\u00`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if strings.Count(string(doc), "{")+strings.Count(string(doc), "[") > maxDepth {
			return
		}
		if want := json.Valid(doc) && utf8.Valid(doc); valid(doc) != want {
			t.Fatalf("%q: got %v, encoding/json says %v", doc, !want, want)
		}
	})
}

// Long strings are looked at in blocks: whatever stands at their edges, it is what encoding/json says.
func TestLongStringsAreValidWhereverTheirEscapesStand(t *testing.T) {
	t.Parallel()
	parts := []string{`\"`, `\\`, `\n`, `\u00e9`, `#`, `]`, `!`, `é`, `a`, "0123456789abcdef", strings.Repeat("x", 61), `\u12`, `\x`, `"`, "\x1f"}
	rapid.Check(t, func(t *rapid.T) {
		last := len(parts) - 1
		if rapid.Bool().Draw(t, "valid") {
			last = 10
		}
		var text strings.Builder
		for range rapid.IntRange(0, 60).Draw(t, "length") {
			text.WriteString(parts[rapid.IntRange(0, last).Draw(t, "part")])
		}
		doc := []byte(`{"a":"` + text.String() + `","b":1}`)
		require.Equal(t, json.Valid(doc), valid(doc), "%s", doc)
		if last == 10 {
			o, err := parseObject(doc)
			require.NoError(t, err)
			require.Equal(t, len(text.String())+2, len(o.raw("a")))
			require.Equal(t, "1", string(o.raw("b")))
		}
	})
}

// What is written is what was meant, and what is read is what encoding/json reads, whole or up to a limit.
func FuzzText(f *testing.F) {
	for _, s := range []string{``, `a`, `\u00e9`, `\ud83d\ude00`, `\ud800`, `\udc00\ud800`, `\ud800\u0041`, `é😀\n\"\\/\/`, "12345678\\t", "1234567\"", "\x01", "\xff"} {
		f.Add(s, 5)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		raw := []byte(`"` + s + `"`)
		var want string
		if json.Valid(raw) && utf8.Valid(raw) && json.Unmarshal(raw, &want) == nil {
			require.Equal(t, want, text(raw))
			got := string(appendText([]byte("x"), raw, max(limit, 0)))
			require.True(t, strings.HasPrefix("x"+want, got) && utf8.ValidString(got), "%q of %q", got, want)
			require.LessOrEqual(t, len(got), 1+max(limit, 0)+utf8.UTFMax)
			require.True(t, len(got) == 1+len(want) || len(got) > 1+max(limit, 0)-utf8.UTFMax)
		}
		var back string
		require.NoError(t, json.Unmarshal(quoted(s), &back))
		require.Equal(t, strings.ToValidUTF8(s, "\ufffd") == s, back == s)
		require.True(t, utf8.Valid(quoted(s)))
	})
}

func BenchmarkValid(b *testing.B) {
	doc := []byte(`{"model":"docs","temperature":0.5,"messages":[{"role":"user","content":"` + strings.Repeat("How does it work? ", 56) + `"}]}`)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if !valid(doc) {
			b.Fatal("not valid")
		}
	}
}
