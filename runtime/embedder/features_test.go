package embedder

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/text"
)

func wordsOf(s string) (list []string) {
	words(s, func(w string) { list = append(list, w) })
	return list
}

func TestWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":                          nil,
		"Reads the files.":          {"read", "the", "file"},
		"NewHTTPClient":             {"new", "http", "client", "newhttpclient"},
		"max_tokens":                {"max", "token", "max_tokens"},
		"__init__ x":                {"init", "x"},
		"queries, classes, process": {"query", "class", "process"},
		"stopping stopped":          {"stopp", "stopp"},
		"Größe über 12 µs":          {"größ", "über", "12", "µs"},
		"a\xffb":                    {"a", "b"},
	} {
		require.Equal(t, want, wordsOf(in), in)
	}
	require.Empty(t, wordsOf(strings.Repeat("a", maxWord+1)), "that is data")
}

func FuzzWords(f *testing.F) {
	f.Add("NewHTTPClient does_it \xff\xfe x")
	v := newVocabulary([]string{"a", "b"}, 5)
	f.Fuzz(func(t *testing.T, s string) {
		list, read := v.features(s)
		if read > maxWords || len(list) > v.size() {
			t.Fatalf("%d words, %d features", read, len(list))
		}
		for _, x := range list {
			if x.row < 0 || int(x.row) >= v.size() || !(x.weight > 0) {
				t.Fatalf("feature %+v", x)
			}
		}
		words(s, func(w string) {
			if w == "" || utf8.ValidString(s) && !utf8.ValidString(w) {
				t.Fatalf("word %q", w)
			}
		})
	})
}

func TestPairs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		title, text string
		want        pair
		ok          bool
	}{
		"a symbol asks without its name": {
			"http.Client.Do", "Do sends an HTTP request and returns a response. An error is returned if caused by policy.",
			pair{"sends an HTTP request and returns a response.", "http.Client.Do\n An error is returned if caused by policy.",
				"http.Client.Do\nDo sends an HTTP request and returns a response. An error is returned if caused by policy."}, true,
		},
		"one sentence asks for its title": {
			"io.EOF", "EOF is what Read gives at the end.", pair{"is what Read gives at the end.", "io.EOF", "io.EOF\nEOF is what Read gives at the end."}, true,
		},
		"an abbreviation ends nothing": {
			"", "Use e.g. a file here as well. Then close what was opened before.",
			pair{"Use e.g. a file here as well.", "\n Then close what was opened before.", "Use e.g. a file here as well. Then close what was opened before."}, true,
		},
		"nothing is asked":         {"x.Y", "Y is it. And then a lot more about what it does.", pair{}, false},
		"nobody knows what it was": {"", "One sentence without a title to ask for.", pair{}, false},
		"a paragraph ends one": {
			"package zip", "Package zip reads and writes archives\n\nIt does so with great care.",
			pair{"Package reads and writes archives", "package zip\n\n\nIt does so with great care.", "package zip\nPackage zip reads and writes archives\n\nIt does so with great care."}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := pairOf(text.Document{Title: tc.title, Text: tc.text})
			require.Equal(t, tc.ok, ok)
			require.Equal(t, tc.want, got)
		})
	}
}
