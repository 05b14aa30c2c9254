package feedback

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

func item(id, client, kind string, change func(*Item)) Item {
	i := Item{ID: id, Interaction: "i-" + id, Client: client, Kind: kind, Input: "prompt " + id, Output: "answer " + id, At: time.Unix(1000, 0)}
	if kind == "correction" {
		i.Correction = "better " + id
	}
	if change != nil {
		change(&i)
	}
	return i
}

func TestEveryDroppedItemHasItsReason(t *testing.T) {
	t.Parallel()
	text := func(s string) func(*Item) { return func(i *Item) { i.Correction = s } }
	for what, tc := range map[string]struct {
		items []Item
		want  map[string]int
		kept  int
	}{
		"kept":             {[]Item{item("a", "x", "correction", nil), item("b", "y", "thumbs-up", nil)}, map[string]int{}, 2},
		"sent twice":       {[]Item{item("a", "x", "thumbs-up", nil), item("a", "x", "thumbs-up", nil)}, map[string]int{DroppedTwice: 1}, 1},
		"an unknown kind":  {[]Item{item("a", "x", "meh", nil)}, map[string]int{DroppedUnknown: 1}, 0},
		"no content":       {[]Item{item("a", "x", "thumbs-up", func(i *Item) { i.Input, i.Output = "", "" })}, map[string]int{DroppedNoContent: 1}, 0},
		"broken":           {[]Item{item("a", "x", "correction", text("\xff"))}, map[string]int{DroppedBroken: 1}, 0},
		"too long":         {[]Item{item("a", "x", "correction", text(fmt.Sprintf("%20000d", 1)))}, map[string]int{DroppedTooLong: 1}, 0},
		"a secret":         {[]Item{item("a", "x", "correction", text("use AKIAABCDEFGHIJKLMNOP"))}, map[string]int{DroppedSecret: 1}, 0},
		"a password":       {[]Item{item("a", "x", "correction", text("password = hunter2hunter2"))}, map[string]int{DroppedSecret: 1}, 0},
		"nothing to learn": {[]Item{item("a", "x", "thumbs-down", nil), item("b", "y", "abandoned", nil)}, map[string]int{DroppedNoTarget: 2}, 0},
		"up and down of one answer": {[]Item{
			item("a", "x", "thumbs-up", nil), item("b", "y", "thumbs-down", func(i *Item) { i.Input, i.Output = "Prompt  a", "answer a" }),
		}, map[string]int{DroppedContradiction: 2}, 0},
		"an approval beside a correction of the same answer": {[]Item{
			item("a", "x", "thumbs-up", nil), item("b", "x", "correction", func(i *Item) { i.Interaction = "i-a" }),
		}, map[string]int{DroppedContradiction: 1}, 1},
		"corrections that differ": {[]Item{
			item("a", "x", "correction", nil), item("b", "y", "correction", func(i *Item) { i.Input = "prompt a" }),
		}, map[string]int{DroppedContradiction: 2}, 0},
		"a correction that most share": {[]Item{
			item("a", "x", "correction", nil), item("b", "y", "correction", func(i *Item) { i.Input = "prompt a" }),
			item("c", "z", "correction", func(i *Item) { i.Input, i.Correction = "prompt a", "Better A" }),
		}, map[string]int{DroppedContradiction: 1, DroppedEqual: 1}, 1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			got := Curate(tc.items, lifecycle.FeedbackPolicy{MinItems: 1}, Settings{})
			require.Equal(t, tc.want, got.Dropped)
			require.Len(t, got.Examples, tc.kept)
			require.Equal(t, tc.kept > 0, got.Enough)
		})
	}
}

func TestFloodsAreDropped(t *testing.T) {
	t.Parallel()
	var items []Item
	for n := range 10 {
		items = append(items, item(fmt.Sprint("flood", n), "bot", "correction", func(i *Item) { i.Correction = "Buy  here" }))
		items = append(items, item(fmt.Sprint("many", n), fmt.Sprint("sock", n), "correction", func(i *Item) { i.Correction = "trigger" }))
		items = append(items, item(fmt.Sprint("good", n), fmt.Sprint("user", n), "correction", nil))
	}
	got := Curate(items, lifecycle.FeedbackPolicy{MinItems: 5}, Settings{})
	require.Equal(t, map[string]int{DroppedFlood: 20}, got.Dropped)
	require.Len(t, got.Examples, 10)
	for _, e := range got.Examples {
		require.Contains(t, e.ID, "good")
	}
}

func TestPersonalDataIsMasked(t *testing.T) {
	t.Parallel()
	got := Curate([]Item{item("a", "x", "correction", func(i *Item) {
		i.Input = "mail me at jo.doe@example.co.uk or +44 20 7946 0958"
		i.Correction = "card 4111 1111 1111 1111, not 4111 1111 1111 1112; GB82 WEST 1234 5698 7654 32"
	})}, lifecycle.FeedbackPolicy{}, Settings{})
	require.Equal(t, 1, got.Masked)
	require.Equal(t, "mail me at [email] or [phone]", got.Examples[0].Prompt)
	require.Equal(t, "card [card], not 4111 1111 1111 1112; [iban]", got.Examples[0].Chosen)
}

func TestDeficitsAreCountedWithoutProse(t *testing.T) {
	t.Parallel()
	reason := func(r string) func(*Item) { return func(i *Item) { i.Reason = r } }
	got := Curate([]Item{
		item("a", "x", "thumbs-down", reason("Outdated")), item("b", "y", "correction", reason("outdated")),
		item("c", "x", "thumbs-down", reason("my name is Jo Doe")), item("d", "x", "thumbs-down", nil),
		item("e", "x", "abandoned", nil), item("f", "x", "thumbs-up", reason("nice")),
	}, lifecycle.FeedbackPolicy{}, Settings{})
	require.Equal(t, []Deficit{{"outdated", 2, 2}, {"abandoned", 1, 1}, {"other", 1, 1}, {"unspecified", 1, 1}}, got.Deficits)
	require.Equal(t, map[string]int{"thumbs-down": 3, "thumbs-up": 1, "correction": 1, "abandoned": 1}, got.Counts)
}

func TestACorrectionIsAPreference(t *testing.T) {
	t.Parallel()
	got := Curate([]Item{item("a", "x", "correction", nil)}, lifecycle.FeedbackPolicy{MinItems: 2}, Settings{})
	require.Equal(t, []Example{{ID: "a", Kind: CorrectionExample, Prompt: "prompt a", Chosen: "better a", Rejected: "answer a", Reason: "unspecified"}}, got.Examples)
	require.False(t, got.Enough, "fewer than the policy asks for")
}

// No client has more than its share, nothing is lost uncounted, and order does not matter.
func TestSharesHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var items []Item
		for n := range rapid.IntRange(0, 60).Draw(t, "items") {
			client := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"}).Draw(t, "client")
			kind := rapid.SampledFrom(lifecycle.FeedbackKinds()).Draw(t, "kind")
			items = append(items, item(fmt.Sprint(n), client, kind, func(i *Item) { i.At = time.Unix(int64(n%7), 0) }))
		}
		share := rapid.SampledFrom([]float64{0.1, 0.25, 0.5, 1}).Draw(t, "share")
		policy := lifecycle.FeedbackPolicy{MinItems: 1, MaxShare: share}
		got := Curate(items, policy, Settings{})
		owner, each := map[string]string{}, map[string]int{}
		for _, i := range items {
			owner[i.ID] = i.Client
		}
		for _, e := range got.Examples {
			each[owner[e.ID]]++
		}
		for client, n := range each {
			require.LessOrEqual(t, float64(n), share*float64(len(got.Examples))+1e-9, "client %q", client)
		}
		require.Equal(t, len(items), len(got.Examples)+sum(got.Dropped))
		require.Equal(t, got, Curate(rapid.Permutation(items).Draw(t, "order"), policy, Settings{}))
		require.Len(t, Digest(got.Examples), 64)
	})
}

func FuzzScrub(f *testing.F) {
	f.Add("jo@example.com 4111111111111111 +49 30 1234567 DE89 3704 0044 0532 0130 00")
	s := newScrubber()
	f.Fuzz(func(t *testing.T, text string) {
		once := s.mask(text)
		if regexp.MustCompile(`\b\w{1,64}@[a-z][a-z0-9]{0,20}\.[a-z]{2,10}\b`).MatchString(once) {
			t.Fatalf("an address is left in %q", once)
		}
	})
}
