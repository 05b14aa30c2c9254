package corpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// prose is text of its own for each number, without repetition.
func prose(seed, length int) string {
	var out strings.Builder
	for i := range length {
		fmt.Fprintf(&out, "w%x ", mix(uint64(seed*100003+i))%50000)
	}
	return strings.TrimSpace(out.String())
}

func TestCheckNamesWhyADocumentWasDropped(t *testing.T) {
	t.Parallel()
	long := prose(1, 60)
	key := "-----BEGIN RSA " + "PRIVATE KEY-----\n" + strings.Repeat("MIIEpAIBAAKCAQEA0Zx3", 5) + "\n-----END"
	for name, tc := range map[string]struct {
		text string
		want Reason
	}{
		"not UTF-8":       {"a\xff" + long, Encoding},
		"decoded wrongly": {strings.Repeat("caf\uFFFD ", 20), Encoding},
		"only controls":   {"\x00\x01 \n\t \u200b", Empty},
		"short":           {"Too short.", TooShort},
		"long":            {strings.Repeat(prose(3, 100)+"\n", 2500), TooLong},
		"symbols":         {strings.Repeat("=+-*/#@! ", 20) + "some words too", Symbols},
		"lines again":     {strings.Repeat("the same line of text again\n", 10), Repetition},
		"phrases again":   {strings.Repeat("round and round and round ", 30), Repetition},
		"private key":     {"Here is how to sign:\n" + key, Secret},
		"the same words":  {strings.ReplaceAll(long, " ", "\n"), Duplicate},
		"nearly the same": {long + " and one more", NearDuplicate},
		"good":            {prose(4, 60), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := Check(sequence(Document{ID: "first", Text: long}, Document{ID: "second", Text: tc.text}), Policy{})
			require.NoError(t, err)
			if tc.want == "" {
				require.Empty(t, out.Card.Dropped)
				return
			}
			require.Equal(t, map[Reason]Drop{tc.want: {Documents: 1, Examples: []string{"second"}}}, out.Card.Dropped)
			require.Equal(t, 1, out.Card.Train+out.Card.HeldOut)
		})
	}
}

func TestSecretsAreFoundAndTheirLookalikesAreNot(t *testing.T) {
	t.Parallel()
	f := newFinder()
	for name, tc := range map[string]struct{ text, want string }{
		"aws key":            {"id AKIA" + "Q3EGRT7WZX2LPVNB", AWSKey},
		"aws documentation":  {"id AKIA" + "IOSFODNN7EXAMPLE", ""},
		"github":             {"use ghp" + "_a8Fk29sLq0Zx7Vb3Nm1Kj5Hg6Dt4Ry2Wp9Qe", AccessToken},
		"json web token":     {"eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3In0" + ".dBjftJeZ4CVPmB92K27uhbUJU1p1r", AccessToken},
		"assigned":           {`password = "` + "hV7x2Qp9Lz4Tn8Wb3Kd6" + `"`, Assignment},
		"assigned in yaml":   {"api_key: " + "9f8a7c6b5d4e3f2a1b0c9d8e7f", Assignment},
		"a name in code":     {"token = parser.nextTokenOrEndOfFile", ""},
		"a word":             {"password: correcthorsebatterystaple", ""},
		"a header alone":     {"a block that begins with -----BEGIN PRIVATE KEY----- and so on", ""},
		"talks of tokens":    {"The token: a string that the server gave.", ""},
		"a digest by itself": {"sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, f.find("before\n"+tc.text+"\nafter"))
		})
	}
}

func TestNoSecretStandsInTheCard(t *testing.T) {
	t.Parallel()
	secret := "hV7x2Qp9Lz4Tn8Wb3Kd6"
	out, err := Check(sequence(Document{ID: "leak", Text: prose(1, 30) + " password=" + secret}), Policy{})
	require.NoError(t, err)
	raw, err := json.Marshal(out.Card)
	require.NoError(t, err)
	require.Contains(t, string(raw), "leak")
	require.NotContains(t, string(raw), secret)
}

func TestCheckRefusesWithReasons(t *testing.T) {
	t.Parallel()
	good := make([]Document, 40)
	for i := range good {
		good[i] = Document{ID: fmt.Sprint(i), Text: prose(i, 30)}
	}
	short := make([]Document, 60)
	for i := range short {
		short[i] = Document{ID: fmt.Sprint("s", i), Text: "short"}
	}
	leak := Document{ID: "leak", Text: prose(1, 30) + " secret=" + "hV7x2Qp9Lz4Tn8Wb3Kd6"}
	for name, tc := range map[string]struct {
		docs   []Document
		policy Policy
		want   string
	}{
		"nothing":        {nil, Policy{}, "0 documents are left"},
		"too few":        {good, Policy{MinDocuments: 41}, "at least 41"},
		"mostly dropped": {append(short, good...), Policy{}, "60 of 100 documents (60.0%) were dropped; at most 50.0% may be: too-short 60"},
		"secrets":        {append([]Document{leak}, good...), Policy{}, "1 of 41 documents (2.44%) hold secrets"},
		"none tolerated": {append([]Document{short[0]}, good...), Policy{MaxDropped: -1}, "at most 0.0%"},
		"all held out":   {good[:1], Policy{HeldOut: 1}, "nothing is left to train on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := Check(sequence(tc.docs...), tc.policy)
			require.NoError(t, err)
			require.Equal(t, Refused, out.Card.Verdict)
			require.Contains(t, strings.Join(out.Card.Reasons, "\n"), tc.want)
			require.True(t, lifecycle.Is(Write(tree{}, out), lifecycle.Refused))
		})
	}
	out, err := Check(sequence(good...), Policy{})
	require.NoError(t, err)
	require.Equal(t, Pass, out.Card.Verdict, out.Card.Reasons)
}

func TestCheckEndsWhereTheCorpusCannotBeRead(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk")
	_, err := Check(func(yield func(Document, error) bool) {
		_ = yield(Document{ID: "bad"}, lifecycle.Errorf(lifecycle.Corrupt, "no text")) && yield(Document{}, broken)
	}, Policy{})
	require.ErrorIs(t, err, broken)
	out, err := Check(func(yield func(Document, error) bool) {
		yield(Document{ID: "bad"}, lifecycle.Errorf(lifecycle.Corrupt, "no text"))
	}, Policy{})
	require.NoError(t, err)
	require.Equal(t, 1, out.Card.Dropped[Unreadable].Documents)
	_, err = Check(sequence(), Policy{SplitBy: "colour"})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
}

func TestMaxDocumentsTakesEvenly(t *testing.T) {
	t.Parallel()
	var docs []Document
	for i := range 100 {
		docs = append(docs, Document{ID: fmt.Sprint(i), Text: prose(i, 30)})
	}
	out, err := Check(sequence(docs...), Policy{MaxDocuments: 10, HeldOut: -1})
	require.NoError(t, err)
	require.Equal(t, 90, out.Card.LeftOut)
	for i, d := range out.Train {
		require.Equal(t, fmt.Sprint(i*10), d.ID)
	}
	require.Len(t, out.Train, 10)
}

func TestSplitKeepsEachDocumentOnItsSide(t *testing.T) {
	t.Parallel()
	var docs []Document
	for i := range 2000 {
		docs = append(docs, Document{ID: fmt.Sprint(i), Source: fmt.Sprint(i % 50)})
	}
	train, held := Split(docs, 0.1, SplitByDocument)
	require.InDelta(t, 200, len(held), 50)
	require.Len(t, train, 2000-len(held))
	_, again := Split(docs[:1000], 0.1, SplitByDocument)
	require.Equal(t, held[:len(again)], again, "what stands beside a document changes nothing")
	train, held = Split(docs, 0.1, SplitBySource)
	sides := map[string]bool{}
	for _, d := range train {
		sides[d.Source] = true
	}
	for _, d := range held {
		require.False(t, sides[d.Source])
	}
	for _, share := range []float64{1e-9, 1} {
		train, held = Split(docs[:3], share, SplitByDocument)
		require.NotEmpty(t, train)
		require.NotEmpty(t, held)
	}
}

func TestNearDuplicatesByTheirAgreement(t *testing.T) {
	t.Parallel()
	found, base := [2]int{}, 400
	for i := range 60 {
		for j, changed := range []int{4, 200} { // shingle agreement about 0.9 and under 0.05
			d := newDuplicates()
			text := strings.Fields(prose(i, base))
			require.Empty(t, d.seen(strings.Join(text, " ")))
			for k := range changed {
				text[k*base/changed] = fmt.Sprintf("other%d", k)
			}
			if d.seen(strings.Join(text, " ")) == NearDuplicate {
				found[j]++
			}
		}
	}
	require.GreaterOrEqual(t, found[0], 55)
	require.Zero(t, found[1])
}

func TestADatasetComesBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	docs := collect(t, GoPackages(goroot(t, "net/http"), GoOptions{Path: "net/http"}))
	first, err := Check(sequence(docs...), Policy{HeldOut: 0.2})
	require.NoError(t, err)
	require.Equal(t, Pass, first.Card.Verdict, first.Card.Reasons)
	second, err := Check(sequence(docs...), Policy{HeldOut: 0.2})
	require.NoError(t, err)
	a, b := tree{}, tree{}
	require.NoError(t, Write(a, first))
	require.NoError(t, Write(b, second))
	require.Equal(t, a, b)
	fsys := fstest.MapFS(a)
	card, err := ReadCard(fsys)
	require.NoError(t, err)
	require.Equal(t, first.Card, card)
	require.Equal(t, first.Train, collect(t, Read(fsys, TrainSplit)))
	require.Equal(t, first.HeldOut, collect(t, Read(fsys, HeldOutSplit)))
	t.Logf("net/http: %d documents seen, %d trained on, %d held out, dropped %v", card.Seen, card.Train, card.HeldOut, card.Dropped)
}

func TestReadRefusesWhatIsNoDataset(t *testing.T) {
	t.Parallel()
	const good = `{"id":"a","source":"","title":"","text":"x"}` + "\n"
	for name, line := range map[string]string{
		"not JSON": "{", "unknown field": `{"id":"b","text":"x","colour":1}`, "no ID": `{"text":"x"}`, "two values": `{"id":"b"} {}`,
		"ID again": good, "not UTF-8": "{\"id\":\"b\xff\"}", "empty line": "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var last error
			n := 0
			for _, err := range Read(files(map[string]string{"train/0.jsonl": good + line}), TrainSplit) {
				last = err
				n++
			}
			require.Equal(t, 2, n)
			require.True(t, lifecycle.Is(last, lifecycle.Corrupt), "%v", last)
		})
	}
	_, err := ReadCard(files(nil))
	require.True(t, lifecycle.Is(err, lifecycle.NotFound))
	_, err = ReadCard(files(map[string]string{CardFile: `{"version":1,"verdict":"refused"}`}))
	require.True(t, lifecycle.Is(err, lifecycle.Refused))
	_, err = ReadCard(files(map[string]string{CardFile: `{"version":1,"verdict":"pass","extra":1}`}))
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt))
}

func TestCleanChangesNothingTwice(t *testing.T) {
	t.Parallel()
	got, ok := Clean("\ufeffa\u0065\u0301 \r\nb\r\n\r\n\r\n\tc\x00\u200bd  \n")
	require.True(t, ok)
	require.Equal(t, "aé\nb\n\n\tcd", got)
	rapid.Check(t, func(t *rapid.T) {
		once, ok := Clean(rapid.String().Draw(t, "text"))
		if !ok {
			return
		}
		twice, ok := Clean(once)
		require.True(t, ok)
		require.Equal(t, once, twice)
	})
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte(`{"id":"a","source":"s","title":"t","text":"x"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		d, err := parseLine(line)
		if err == nil && d.ID == "" {
			t.Fatal("a document without an ID")
		}
	})
}

func FuzzMarkdownAndPairs(f *testing.F) {
	f.Add("# A\ntext. More text that goes on and on until it is long enough.\n~~~\n# b\n~~~\n", "http.Client")
	f.Fuzz(func(t *testing.T, text, title string) {
		for _, d := range sections(Document{ID: "f", Title: title, Text: text}) {
			q, rest, ok := Pair(d)
			if ok && (q.Text == "" || len(rest.Text) >= len(d.Text)) {
				t.Fatalf("a pair that takes nothing away: %q of %q", q.Text, d.Text)
			}
		}
	})
}

func BenchmarkCheckStandardLibrary(b *testing.B) {
	docs := collect(b, GoPackages(goroot(b, ""), GoOptions{Skip: []string{"cmd"}}))
	b.ReportMetric(float64(len(docs)), "documents")
	for b.Loop() {
		out, err := Check(sequence(docs...), Policy{})
		require.NoError(b, err)
		b.Logf("%d seen, %d kept, %v", out.Card.Seen, out.Card.Train+out.Card.HeldOut, out.Card.Dropped)
	}
}
