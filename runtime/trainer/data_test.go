package trainer

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/bpe"
	"github.com/refitml/refit/runtime/text"
)

func counting(n int) stream {
	s := stream{}
	for i := range n {
		s.tokens = append(s.tokens, int32(i))
	}
	return s
}

func TestAStreamIsTheDocumentsBetweenEnds(t *testing.T) {
	t.Parallel()
	documents := []text.Document{{ID: "a", Title: "T", Text: "one two"}, {ID: "b", Text: "three"}}
	tok, err := bpe.Learn(slices.Values([]string{"one two three"}), 257)
	require.NoError(t, err)
	s := newStream(tok, documents)
	require.Equal(t, len("T\none two")+len("three"), s.bytes)
	var tokens []int
	for _, token := range s.tokens {
		tokens = append(tokens, int(token))
	}
	require.Equal(t, "T\none twothree", tok.Decode(tokens))
	ends := 0
	for _, token := range tokens {
		if token == bpe.EndOfText {
			ends++
		}
	}
	require.Equal(t, 3, ends)
	require.Equal(t, bpe.EndOfText, tokens[0])
	require.Equal(t, bpe.EndOfText, tokens[len(tokens)-1])
}

func TestAnEpochHoldsEveryWindowOnce(t *testing.T) {
	t.Parallel()
	const length = 10
	for _, size := range []int{21, 29, 30, 1234, 1240} {
		o := newOrder(counting(size), length, 7, 1)
		offsets := map[int32]bool{}
		for epoch := range 12 {
			seen := map[int32]bool{}
			for i := range o.windowsTotal {
				w := o.window(epoch*o.windowsTotal + i)
				require.Len(t, w, length+1)
				for k := range w {
					require.Equal(t, w[0]+int32(k), w[k], "a window is a piece of the stream")
				}
				seen[w[0]] = true
				offsets[w[0]%length] = true
			}
			require.Len(t, seen, o.windowsTotal, "%d tokens", size)
		}
		require.Greater(t, len(offsets), 3, "epochs cut the stream at different places")
	}
}

func TestTheOrderDependsOnSeedAndIndexOnly(t *testing.T) {
	t.Parallel()
	straight, jumping := newOrder(counting(500), 10, 7, 1), newOrder(counting(500), 10, 7, 1)
	other, salted := newOrder(counting(500), 10, 8, 1), newOrder(counting(500), 10, 7, 2)
	same, sameSalt := 0, 0
	for i := range 200 {
		w := straight.window(i)
		require.Equal(t, w, jumping.window(i))
		jumping.window((i * 7919) % 1000) // asking for others in between changes nothing
		if slices.Equal(w, other.window(i)) {
			same++
		}
		if slices.Equal(w, salted.window(i)) {
			sameSalt++
		}
	}
	require.Less(t, same, 20)
	require.Less(t, sameSalt, 20)
}

func TestAShortStreamIsRepeated(t *testing.T) {
	t.Parallel()
	o := newOrder(counting(3), 10, 0, 1)
	for i := range 20 {
		require.Len(t, o.window(i), 11)
	}
}

func TestReplayTakesItsShareEvenly(t *testing.T) {
	t.Parallel()
	replay := stream{}
	for range 2000 {
		replay.tokens = append(replay.tokens, -1)
	}
	m := mixture{fresh: newOrder(counting(3000), 10, 7, 1), replay: newOrder(replay, 10, 7, 2), fraction: 0.3}
	replayed := 0
	starts := map[int32]int{}
	for step := 1; step <= 50; step++ {
		b := m.batch(step, 8)
		require.Len(t, b.inputs, 80)
		require.Len(t, b.targets, 80)
		for row := range 8 {
			inputs, targets := b.inputs[row*10:][:10], b.targets[row*10:][:10]
			require.Equal(t, inputs[1:], targets[:9], "a target is the next input")
			if inputs[0] < 0 {
				replayed++
				continue
			}
			starts[inputs[0]]++
		}
		require.InDelta(t, 0.3*float64(step*8), replayed, 1)
	}
	require.Len(t, starts, 280, "in the first epoch no fresh window comes twice")
	require.Equal(t, m.batch(17, 8), m.batch(17, 8))
}

func TestBatchesWithoutReplay(t *testing.T) {
	t.Parallel()
	m := mixture{fresh: newOrder(counting(300), 10, 7, 1)}
	require.Len(t, m.batch(1, 4).inputs, 40)
}

func TestSlicesOfABatchAreItsRows(t *testing.T) {
	t.Parallel()
	m := mixture{fresh: newOrder(counting(300), 10, 7, 1)}
	b := m.batch(1, 6)
	var joined batch
	for i := range 3 {
		s := b.slice(i, 3)
		require.Equal(t, 2, s.rows)
		joined.inputs, joined.targets = append(joined.inputs, s.inputs...), append(joined.targets, s.targets...)
	}
	require.Equal(t, b.inputs, joined.inputs)
	require.Equal(t, b.targets, joined.targets)
}

func TestRenderedTextIsWhatTheTokenizerLearns(t *testing.T) {
	t.Parallel()
	all := slices.Collect(rendered([]text.Document{{Title: "T", Text: "x"}, {Text: "y"}}))
	require.Equal(t, "T\nx|y", strings.Join(all, "|"))
}
