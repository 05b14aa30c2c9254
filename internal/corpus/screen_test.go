package corpus

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// speech writes text as people do: few words are most of it.
type speech struct{ *rand.Rand }

func (s speech) words(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("w%d", int(math.Exp(s.Float64()*math.Log(3000)))) // Zipf over 3,000 words
	}
	return out
}

func (s speech) text(n int) string { return strings.Join(s.words(n), " ") }

// around puts words into the middle of a document.
func (s speech) around(words []string) string {
	return s.text(60) + " " + strings.Join(words, " ") + " " + s.text(60)
}

// everyNth changes each nth word, the first one at a place that n and the text decide.
func everyNth(words []string, n int) []string {
	out := append([]string(nil), words...)
	for i := n / 2; i < len(out); i += n {
		out[i] = "changed" + out[i]
	}
	return out
}

// plants are ways in which a case gets into training data, with the share of cases that must be found.
var plants = map[string]struct {
	words int // of the case
	plant func(s speech, words []string) []string
	found float64
}{
	"as it is":                {30, func(s speech, w []string) []string { return []string{s.around(w)} }, 1},
	"alone":                   {30, func(_ speech, w []string) []string { return []string{strings.Join(w, " ")} }, 1},
	"nine words as they are":  {9, func(s speech, w []string) []string { return []string{s.around(w)} }, 1},
	"every 20th word changed": {60, func(s speech, w []string) []string { return []string{s.around(everyNth(w, 20))} }, 1},
	"in capitals":             {30, func(s speech, w []string) []string { return []string{strings.ToUpper(s.around(w))} }, 1},
	"with other punctuation": {30, func(s speech, w []string) []string {
		return []string{s.around(strings.Split(strings.Join(w, ",- "), " "))}
	}, 1},
	"with other white space":   {30, func(s speech, w []string) []string { return []string{strings.ReplaceAll(s.around(w), " ", " \t\n")} }, 1},
	"split over two documents": {30, func(s speech, w []string) []string { return []string{s.around(w[:15]), s.around(w[15:])} }, 1},
	"split over three": {45, func(s speech, w []string) []string {
		return []string{s.around(w[:15]), s.around(w[15:30]), s.around(w[30:])}
	}, 1},
	"a line, its last word changed": {12, func(s speech, w []string) []string {
		return []string{s.text(40) + "\n" + strings.Join(w[:11], " ") + " other\n" + s.text(40)}
	}, 1},
	"sentences in another order": {48, func(_ speech, w []string) []string {
		return []string{strings.Join([]string{strings.Join(w[36:], " "), strings.Join(w[24:36], " "), strings.Join(w[12:24], " "), strings.Join(w[:12], " ")}, ". ")}
	}, 1},
}

// recall plants cases and gives the share that was found, by how they were planted.
func recall(t *testing.T, options ScreenOptions, cases int) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for name, p := range plants {
		s := speech{rand.New(rand.NewPCG(7, uint64(len(name))))}
		screen := NewScreen(options)
		var texts [][]string
		for i := range cases {
			words := s.words(p.words)
			texts = append(texts, words)
			screen.Add(Known{Suite: "s", Case: fmt.Sprint(i), Texts: []string{strings.Join(words, " ")}})
		}
		hits := 0
		for i, words := range texts {
			all := true
			for _, text := range p.plant(s, words) {
				named := false
				for _, hit := range screen.Find(Document{ID: "d", Text: text}) {
					named = named || hit.Case == fmt.Sprint(i)
				}
				all = all && named
			}
			if all {
				hits++
			}
		}
		found[name] = float64(hits) / float64(cases)
	}
	return found
}

func TestPlantedCasesAreFound(t *testing.T) {
	t.Parallel()
	found := recall(t, ScreenOptions{}, 60)
	for name, p := range plants {
		require.GreaterOrEqual(t, found[name], p.found, name)
	}
}

// TestTheSimulationSeesAFaultOfTheScreen plants faults: with n-grams that are too long, or without a search for near
// duplicates, what only the one or the other finds is lost.
func TestTheSimulationSeesAFaultOfTheScreen(t *testing.T) {
	t.Parallel()
	long := recall(t, ScreenOptions{Words: 40}, 20)
	require.Less(t, long["every 20th word changed"], 0.1)
	require.Less(t, long["split over two documents"], 0.1)
	exact := recall(t, ScreenOptions{Similarity: 1}, 20)
	require.Less(t, exact["a line, its last word changed"], 0.1)
	require.Equal(t, 1.0, exact["every 20th word changed"])
}

// TestTextThatHoldsNoCaseIsNotHit: of 500 documents of the same few words none is hit.
func TestTextThatHoldsNoCaseIsNotHit(t *testing.T) {
	t.Parallel()
	s := speech{rand.New(rand.NewPCG(1, 2))}
	screen := NewScreen(ScreenOptions{})
	for i := range 500 {
		screen.Add(Known{Case: fmt.Sprint(i), Texts: []string{s.text(8 + i%40)}})
	}
	for i := range 500 {
		require.Empty(t, screen.Find(Document{ID: fmt.Sprint(i), Title: s.text(3), Text: s.text(20 + i%200)}))
	}
}

func TestAHitSaysWhatAndHow(t *testing.T) {
	t.Parallel()
	screen := NewScreen(ScreenOptions{})
	question := "How many goroutines may run at once when GOMAXPROCS is set to four on a machine of eight cores?"
	require.True(t, screen.Add(Known{Suite: "newer", Case: "q1", Texts: []string{question}}))
	require.True(t, screen.Add(Known{Suite: "older", Case: "q1", Texts: []string{question}}), "known already, under the newer suite")
	require.False(t, screen.Add(Known{Suite: "newer", Case: "q2", Texts: []string{"Only seven words stand in this one"}}))
	all, short := screen.Cases()
	require.Equal(t, []int{2, 1}, []int{all, short})

	hits := screen.Find(Document{ID: "faq", Title: "FAQ", Text: "Asked often:\n\n" + strings.ToUpper(question) + " Four."})
	require.Equal(t, []Hit{{
		Document: "faq", Suite: "newer", Case: "q1", How: ByGram, Length: 19, Words: strings.TrimSuffix(strings.ToUpper(question), "?"),
	}}, hits)
	hits = screen.Find(Document{ID: "faq", Text: "How many threads may run\n" +
		"How many goroutines may run at once when GOMAXPROCS is set to three on a machine of eight cores?"})
	require.Len(t, hits, 1, "twelve words are the same up to the one that differs, and six behind it")
	require.Equal(t, BySimilar, hits[0].How)
	require.InDelta(t, 0.7, hits[0].Similarity, 1e-9, "14 of 20 shingles")
	require.Empty(t, NewScreen(ScreenOptions{}).Find(Document{Text: question}), "a screen that knows nothing finds nothing")
}

func TestADocumentNamesTenCasesAtMost(t *testing.T) {
	t.Parallel()
	screen := NewScreen(ScreenOptions{})
	text := prose(1, 40)
	for i := range 20 {
		screen.Add(Known{Suite: lifecycle.Digest(fmt.Sprint(i)), Case: fmt.Sprint(i), Texts: []string{text}})
	}
	hits := screen.Find(Document{ID: "d", Text: strings.Repeat(text+" ", 50)})
	require.Len(t, hits, maxDocHits)
	require.LessOrEqual(t, len(hits[0].Words), maxHitBytes+3)
}

// TestAScreenIsAsSmallAsItSays counts what it keeps for each n-gram and for each text.
func TestAScreenIsAsSmallAsItSays(t *testing.T) {
	t.Parallel()
	s := speech{rand.New(rand.NewPCG(1, 2))}
	screen := NewScreen(ScreenOptions{})
	const texts, words = 2000, 30
	for i := range texts {
		screen.Add(Known{Case: fmt.Sprint(i), Texts: []string{s.text(words)}})
	}
	screen.seal()
	require.Len(t, screen.grams, texts*(words-defaultGram+1))
	held := cap(screen.grams)*int(unsafe.Sizeof(owned{})) + 8*len(screen.maybe)
	require.LessOrEqual(t, held/len(screen.grams), 20)
	require.LessOrEqual(t, cap(screen.bands)*int(unsafe.Sizeof(owned{}))/texts, 520)
}

// TestWordListReadsWhatWordsReads: both know the same words of any text.
func TestWordListReadsWhatWordsReads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		var list wordList
		list.read(text)
		want := words(text)
		if len(want) != len(list.hashes) {
			t.Fatalf("%d words of %q, and %d hashes", len(want), want, len(list.hashes))
		}
		for i := range want {
			if got := words(text[list.from[i]:list.to[i]]); len(got) != 1 || got[0] != want[i] {
				t.Fatalf("word %d is %q, and %q", i, want[i], got)
			}
		}
	})
}

// TestGramsRoll: a gram's hash depends on its words and their number alone.
func TestGramsRoll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Uint64Range(0, 3), 1, 30).Draw(t, "words")
		n := rapid.IntRange(1, 5).Draw(t, "n")
		hashes := map[string]uint64{}
		grams(list, n, func(at int, hash uint64) {
			key := fmt.Sprint(list[at : at+n])
			if known, ok := hashes[key]; ok && known != hash {
				t.Fatalf("two hashes of %s", key)
			}
			hashes[key] = hash
		})
		if want := max(0, len(list)-n+1); want > 0 && len(hashes) == 0 {
			t.Fatal("no gram was given")
		}
	})
}

func TestRewriteLeavesDocumentsOut(t *testing.T) {
	t.Parallel()
	var docs []Document
	for i := range 40 {
		docs = append(docs, Document{ID: fmt.Sprint(i), Source: fmt.Sprint("s", i%3), Text: prose(i, 60)})
	}
	checked, err := Check(sequence(docs...), Policy{HeldOut: 0.2})
	require.NoError(t, err)
	before := tree{}
	require.NoError(t, Write(before, checked))
	gone := map[string]bool{checked.Train[3].ID: true, checked.Train[7].ID: true}
	after := tree{}
	card, err := Rewrite(after, fstest.MapFS(before), gone, Contaminated)
	require.NoError(t, err)

	// It is what a check of the others would have given, but for what was dropped.
	var left []Document
	for _, d := range docs {
		if !gone[d.ID] {
			left = append(left, d)
		}
	}
	want, err := Check(sequence(left...), Policy{HeldOut: 0.2})
	require.NoError(t, err)
	require.Equal(t, Drop{Documents: 2, Examples: []string{checked.Train[3].ID, checked.Train[7].ID}}, card.Dropped[Contaminated])
	require.Equal(t, want.Card.Digest, card.Digest)
	require.Equal(t, []int{want.Card.Train, want.Card.HeldOut, want.Card.Sources, int(want.Card.Bytes)}, []int{card.Train, card.HeldOut, card.Sources, int(card.Bytes)})
	require.Equal(t, want.Train, collect(t, Read(fstest.MapFS(after), TrainSplit)))
	require.Equal(t, want.HeldOut, collect(t, Read(fstest.MapFS(after), HeldOutSplit)), "what is held out stays")
	read, err := ReadCard(fstest.MapFS(after))
	require.NoError(t, err)
	require.Equal(t, card, read)

	_, err = Rewrite(tree{}, fstest.MapFS(before), map[string]bool{checked.HeldOut[0].ID: true}, Contaminated)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
	all := map[string]bool{}
	for _, d := range checked.Train {
		all[d.ID] = true
	}
	_, err = Rewrite(tree{}, fstest.MapFS(before), all, Contaminated)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
}

// BenchmarkScreen looks at documents of 1,000 words against 1,000,000 n-grams; B/gram is what the screen holds for each.
func BenchmarkScreen(b *testing.B) {
	s := speech{rand.New(rand.NewPCG(1, 2))}
	for _, cases := range []int{5_000, 55_556} {
		b.Run(fmt.Sprint(cases*18, " n-grams"), func(b *testing.B) {
			screen := NewScreen(ScreenOptions{})
			for i := range cases {
				screen.Add(Known{Case: fmt.Sprint(i), Texts: []string{s.text(30)}})
			}
			doc := Document{Text: s.text(1000)}
			screen.Find(doc)
			b.SetBytes(int64(len(doc.Text)))
			for b.Loop() {
				screen.Find(doc)
			}
		})
	}
}
