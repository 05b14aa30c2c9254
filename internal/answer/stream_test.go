package answer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

const (
	stop   = `data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usage  = `data: {"id":"c","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":5}}` + "\n\n"
	ending = "data: [DONE]\n\n"
	asking = `{"stream":true,"messages":[{"role":"user","content":"x"}]}`
)

func chunk(content string) string {
	return `data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":` + string(quoted(content)) + `},"finish_reason":null}]}` + "\n\n"
}

// read joins the contents of a stream that a client got, and its finish reason.
func read(t require.TestingT, stream string) (content, finish string, clean bool) {
	for _, block := range strings.Split(stream, "\n\n") {
		data, ok := strings.CutPrefix(block, "data: ")
		if !ok || clean {
			continue
		}
		if data == done {
			clean = true
			continue
		}
		var c struct {
			Choices []struct {
				Delta        struct{ Content string }
				FinishReason string `json:"finish_reason"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(data), &c), "%s", data)
		for _, choice := range c.Choices {
			content += choice.Delta.Content
			if choice.FinishReason != "" {
				finish = choice.FinishReason
			}
		}
	}
	return content, finish, clean
}

// A model server that says nothing more until the client has what it said last finds nobody who waits for more.
func TestWhatWasSaidWaitsForNothing(t *testing.T) {
	t.Parallel()
	flushed := make(chan struct{}, 100)
	pieces := []string{chunk("a"), chunk("b") + chunk("c"), chunk("d") + `data: {"choices":[`, `]}` + "\n\n" + chunk("e"), stop}
	m := newModelServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, piece := range pieces {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-flushed:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, ending)
	})
	c := &client{onFlush: func() { flushed <- struct{}{} }}
	path := New(Settings{Idle: 20 * time.Second})
	_, err := path.Do(t.Context(), ready(t, nil, nil), Upstream{URL: m.URL}, Request{Endpoint: Chat, Body: []byte(asking)}, c)
	require.NoError(t, err)
	content, _, clean := read(t, c.body.String())
	require.True(t, clean)
	require.Equal(t, "abcde", content)
}

func TestAStreamPassesByteByByte(t *testing.T) {
	t.Parallel()
	odd := ": ping\r\n\r\nevent: x\rdata: {\"choices\":[{\"index\":0,\rdata: \"delta\":{\"content\":\"b\"}}]}\r\r"
	m := newModelServer(t, streaming(chunk("a"), odd, stop, usage, ending))
	c, result, err := ask(t, ready(t, nil, nil), m, Chat, asking)
	require.NoError(t, err)
	require.Equal(t, chunk("a")+odd+stop+ending, c.body.String(), "without the usage that the client did not ask for")
	require.Positive(t, c.flushes)
	require.Zero(t, c.unflushed)
	require.Equal(t, "text/event-stream", c.header.Get("Content-Type"))
	require.Equal(t, lifecycle.Usage{Prompt: 4, Completion: 5}, result.Usage)
	require.Equal(t, "ab", result.Output)
	require.Contains(t, m.asked(t), `"stream_options":{"include_usage":true}`)

	c, _, err = ask(t, ready(t, nil, nil), m, Chat, `{"stream":true,"stream_options":{"include_usage":true,"x":1},"messages":[{"role":"user"}]}`)
	require.NoError(t, err)
	require.Equal(t, chunk("a")+odd+stop+usage+ending, c.body.String())
	_, _, err = ask(t, ready(t, nil, nil), m, Chat, `{"stream":true,"stream_options":{"include_usage":false},"messages":[{"role":"user"}]}`)
	require.NoError(t, err)
	require.Contains(t, m.asked(t), `"stream_options":{"include_usage":true}`)
}

// Chunks that differ in their text only are not read as a whole; whose text they bring is known all the same.
func TestChunksOfTwoChoicesThatAreAlike(t *testing.T) {
	t.Parallel()
	second := func(content string) string { return strings.Replace(chunk(content), `"index":0`, `"index":1`, 1) }
	said := chunk("a") + chunk("b") + second("x") + second("y") + second("z") + chunk("c") + chunk(`"d\ü"`) + chunk("") + chunk("e")
	m := newModelServer(t, streaming(said, stop, ending))
	c, result, err := ask(t, ready(t, nil, nil), m, Chat, asking)
	require.NoError(t, err)
	require.Equal(t, said+stop+ending, c.body.String())
	require.Equal(t, `abc"d\ü"e`, result.Output)
	require.Equal(t, "stop", result.Finish)
}

func TestAStreamThatBreaksOffNeverEndsWell(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		pieces  []string
		started bool
	}{
		"after a chunk":              {[]string{chunk("a")}, true},
		"after the finish reason":    {[]string{chunk("a"), stop}, true},
		"inside an event":            {[]string{chunk("a"), `data: {"choices":[`}, true},
		"with a failure":             {[]string{chunk("a"), "data: {\"error\":{\"message\":\"m\"}}\n\n", ending}, true},
		"before the first chunk":     {[]string{": ping\n\n"}, false},
		"a failure as first event":   {[]string{"data: {\"error\":{}}\n\n", ending}, false},
		"an end without a beginning": {[]string{ending}, false},
		"an event that is no JSON":   {[]string{"data: hello\n\n", ending}, false},
		"an event without choices":   {[]string{"data: {}\n\n", ending}, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			m := newModelServer(t, streaming(tc.pieces...))
			c, result, err := ask(t, ready(t, nil, nil), m, Chat, asking)
			require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
			require.Equal(t, tc.started, result.Started)
			require.Equal(t, OutcomeError, result.Outcome)
			require.NotContains(t, c.body.String(), done)
			if !tc.started {
				require.Zero(t, c.body.Len())
			}
		})
	}
	m := newModelServer(t, saying(plain))
	_, result, err := ask(t, ready(t, nil, nil), m, Chat, asking)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "an answer that is no stream: %v", err)
	require.False(t, result.Started)
	m = newModelServer(t, streaming(chunk("a"), stop, "data: [DONE]\n"))
	c, _, err := ask(t, ready(t, nil, nil), m, Chat, asking)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(c.body.String(), ending), "the end was said in full but for its empty line")
}

func TestRulesWorkInAStream(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		rules   []lifecycle.Rule
		pieces  []string
		content string
		finish  string
		hits    []string
	}{
		"a match over three chunks": {[]lifecycle.Rule{{Kind: "deny-pattern", Value: `key-\d{3}`}}, []string{"my ke", "y-1", "23 is", " long gone now"}, "my [removed] is long gone now", "stop", []string{"deny-pattern[0]"}},
		"trimmed at both ends":      {[]lifecycle.Rule{{Kind: "trim"}}, []string{" ", "\n a", " b ", " "}, "a b", "stop", nil},
		"cut":                       {[]lifecycle.Rule{{Kind: "max-length", Value: "4"}}, []string{"äb", "cdé", "fgh"}, "äbcd", "length", []string{"max-length[0]"}},
		"refused in the middle":     {[]lifecycle.Rule{{Kind: "deny-pattern", Value: "bad", Action: "refuse", Notice: "No."}}, []string{"good good good", "bad", "more"}, "good go\nNo.", "content_filter", []string{"deny-pattern[0]"}},
		"not the start of the text": {[]lifecycle.Rule{{Kind: "deny-pattern", Value: `\bab\b|^c`}}, []string{"aabéaaa", "bbbbbbb", "bbbbc", "ccccccccc"}, "aabéaaabbbbbbbbbbbcccccccccc", "stop", nil},
		"no match":                  {[]lifecycle.Rule{{Kind: "deny-pattern", Value: "bad"}}, []string{"go", "od"}, "good", "stop", nil},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var pieces []string
			for _, p := range tc.pieces {
				pieces = append(pieces, chunk(p))
			}
			m := newModelServer(t, streaming(append(pieces, stop, usage, ending)...))
			c, result, err := ask(t, ready(t, func(r *lifecycle.Release) { r.PostProcess = tc.rules }, nil), m, Chat, asking)
			require.NoError(t, err)
			content, finish, clean := read(t, c.body.String())
			require.True(t, clean)
			require.Equal(t, tc.finish, finish)
			require.Equal(t, tc.hits, result.Guardrails)
			require.Equal(t, content, result.Output)
			require.Equal(t, lifecycle.Usage{Prompt: 4, Completion: 5}, result.Usage, "what is thrown away was still made")
			if tc.finish == finishFilter {
				require.Equal(t, OutcomeRefused, result.Outcome)
				require.True(t, strings.HasSuffix(content, "\nNo."))
				require.NotContains(t, content, "bad")
				return
			}
			require.Equal(t, tc.content, content)
		})
	}
}

// However a text is cut into pieces, a chain says the same as over the whole text.
func TestRulesSayTheSameHoweverTheTextIsCut(t *testing.T) {
	t.Parallel()
	patterns := []string{"ab", `a{2,5}b?`, `\bab\b`, `(?i)ba[cd]`, `^a`, `(?m)^b`, `c$`, "é+a", "a|ab|abc", "|ab", `\Qab`, `\Ba`, `\Ab`}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("abcdé \nAB")), 0, 120, -1).Draw(t, "text")
		var rules []lifecycle.Rule
		for range rapid.IntRange(1, 2).Draw(t, "rules") {
			rules = append(rules, rapid.SampledFrom([]lifecycle.Rule{
				{Kind: "trim"},
				{Kind: "max-length", Value: "30"},
				{Kind: "deny-pattern", Value: rapid.SampledFrom(patterns).Draw(t, "pattern")},
			}).Draw(t, "rule"))
		}
		c, err := newChain(rules)
		require.NoError(t, err)
		want, _ := c.whole(text)
		p := c.start()
		got := inPieces(t, p, text)
		require.Equal(t, want, got)
	})
}

// inPieces gives what rules say of a text that comes in pieces, which are cut anywhere between characters.
func inPieces(t *rapid.T, p *processor, text string) (said string) {
	for rest := text; rest != ""; {
		n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
		for n < len(rest) && rest[n]&0xC0 == 0x80 {
			n++
		}
		said += p.feed(rest[:n], false)
		rest = rest[n:]
	}
	return said + p.feed("", true)
}

func TestALongMatchIsNotHeldForEver(t *testing.T) {
	t.Parallel()
	c, err := newChain([]lifecycle.Rule{{Kind: "deny-pattern", Value: "BEGIN[a-z]*"}})
	require.NoError(t, err)
	p := c.start()
	out := p.feed("BEGIN", false)
	for range 5000 {
		out += p.feed("x", false)
		require.LessOrEqual(t, len(p.stages[0].(*denyStage).buf), 4*MaxHold)
	}
	out += p.feed("", true)
	require.True(t, strings.HasPrefix(out, mask), "the beginning is masked")
	require.NotContains(t, out, "BEGIN")
	require.Less(t, len(out), 5000-MaxHold, "the rest is not held back")
}

func TestEventsAreReadHoweverTheStreamIsCut(t *testing.T) {
	t.Parallel()
	stream := "\xef\xbb\xbfdata: one\r\n\r\n: note\n\ndata:two\ndata:  more\n\nevent: e\rdata\r\rid: 4\ndata: last\n\n"
	for what, reader := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "in halves": iotest.HalfReader,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newEvents(reader(strings.NewReader(stream)), 1000)
			var raw []byte
			var data []string
			for {
				e, err := s.next()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				raw = append(raw, e.raw...)
				if e.any {
					data = append(data, string(e.data))
				}
			}
			require.Equal(t, stream, string(raw))
			require.Equal(t, []string{"one", "two\n more", "", "last"}, data)
		})
	}
	_, err := newEvents(strings.NewReader("data: "+strings.Repeat("x", 100)), 50).next()
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "an event without end: %v", err)
}

// Clients that know only LF and CRLF see the end of an event with its last line feed.
func TestAnEventIsWholeBeforeTheNextOneComes(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		for _, cut := range []int{0, 1} { // bytes of the event that come by themselves
			t.Run(fmt.Sprintf("%q, %d apart", end, cut), func(t *testing.T) {
				t.Parallel()
				stream, w := io.Pipe()
				defer w.Close()
				s := newEvents(stream, 1000)
				for range 3 {
					event := "data: a" + end
					go func() {
						_, _ = w.Write([]byte(event[:len(event)-cut]))
						_, _ = w.Write([]byte(event[len(event)-cut:]))
					}()
					e, err := s.next() // would wait for ever
					require.NoError(t, err)
					require.Equal(t, event, string(e.raw))
				}
			})
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("data: a\r\n\r\n: b\n\n"))
	f.Add([]byte("\r\r\n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		all := func(r io.Reader) (raw []byte, data []string, last error) {
			s := newEvents(r, 1<<20)
			for {
				e, err := s.next()
				if err != nil {
					return append(raw, s.leftOver.raw...), data, err
				}
				raw, data = append(raw, e.raw...), append(data, string(e.data))
			}
		}
		raw, data, err := all(bytes.NewReader(stream))
		raw2, data2, err2 := all(iotest.OneByteReader(bytes.NewReader(stream)))
		if !bytes.Equal(raw, stream) || !bytes.Equal(raw2, stream) {
			t.Fatalf("bytes were lost: %q gave %q", stream, raw)
		}
		if len(data) != len(data2) || !errors.Is(err2, err) {
			t.Fatalf("cutting changed what was read: %q %v, %q %v", data, err, data2, err2)
		}
	})
}

func FuzzSplice(f *testing.F) {
	f.Add([]byte(`{"model":"docs","temperature":1,"top_p":1,"messages":[{"role":"user","content":"x"}],"stop":"a"}`), true)
	f.Add([]byte(` {"prompt":"x" , "top_k":2,"min_p":1 } `), false)
	half := 0.5
	b, err := NewBundle(release(func(r *lifecycle.Release) {
		r.Prompt.System, r.Parameters.MaxTokens, r.Parameters.TopP = "sys", 5, &half
	}), nil)
	require.NoError(f, err)
	owned := append([]string{"model", "messages", "max_tokens", "max_completion_tokens", "stream_options"}, samplingKeys...)
	f.Fuzz(func(t *testing.T, body []byte, chat bool) {
		endpoint := Completions
		if chat {
			endpoint = Chat
		}
		a, err := Read(endpoint, body)
		if err != nil {
			require.True(t, lifecycle.Is(err, lifecycle.Invalid))
			return
		}
		edits, err := b.assemble(&a.asked, "m", nil)
		require.NoError(t, err)
		out := apply(a.body.doc, edits)
		in := bodyOf(a, edits)
		require.Equal(t, len(out), in.size())
		p := in.pieces()
		require.EqualValues(t, len(out), p.left())
		sent, err := io.ReadAll(iotest.OneByteReader(p))
		require.NoError(t, err)
		require.Equal(t, string(out), string(sent), "in pieces it is the same")
		require.NoError(t, p.Close())
		var before, after map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &before))
		require.NoError(t, json.Unmarshal(out, &after), "%s", out)
		require.JSONEq(t, `"m"`, string(after["model"]))
		for _, key := range owned {
			delete(before, key)
			delete(after, key)
		}
		require.Equal(t, before, after, "what Refit does not own stays byte by byte")
	})
}

func bodyOf(a *Asked, edits []edit) body { return body{asked: a, doc: a.asked.body.doc, edits: edits} }
