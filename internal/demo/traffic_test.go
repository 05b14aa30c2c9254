package demo

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func someQuestions(n int) []Question {
	var all []Question
	for i := range n {
		all = append(all, Question{Text: fmt.Sprintf("question %d", i), Documented: "text", Group: fmt.Sprintf("package %d", i/10)})
	}
	return all
}

func TestConversationsAreShortForMostAndLongForFew(t *testing.T) {
	t.Parallel()
	traffic := Traffic{Seed: 7}.withDefaults()
	traffic.Canceled = 0
	person := newPerson(traffic, someQuestions(200), 3)
	lengths := map[int]int{}
	turns, keyed, streamed := 0, 0, 0
	var pauses time.Duration
	const n = 20_000
	for range n {
		c := person.plan()
		lengths[len(c.Turns)]++
		if c.Keyed {
			keyed++
		}
		for _, turn := range c.Turns {
			turns++
			pauses += turn.Pause
			if turn.Stream {
				streamed++
			}
		}
	}
	// Pareto with alpha 1.5, rounded down: P(length >= k) = k^-1.5, cut at 12.
	require.Zero(t, lengths[0])
	require.InDelta(t, 1-0.35355, float64(lengths[1])/n, 0.02, "one turn")
	require.InDelta(t, 0.02406, float64(lengths[12])/n, 0.005, "the longest")
	for length := range lengths {
		require.LessOrEqual(t, length, 12)
	}
	require.InDelta(t, 0.8, float64(keyed)/n, 0.02)
	require.InDelta(t, 0.5, float64(streamed)/float64(turns), 0.02)
	require.InDelta(t, 0.25, pauses.Seconds()/float64(turns), 0.02)
}

func TestOnlyStreamsAreLeftInTheMiddleAndEndTheConversation(t *testing.T) {
	t.Parallel()
	person := newPerson(Traffic{Canceled: 0.5}.withDefaults(), someQuestions(200), 0)
	canceled := 0
	for range 2000 {
		c := person.plan()
		for i, turn := range c.Turns {
			if turn.Cancel {
				canceled++
				require.True(t, turn.Stream)
				require.Equal(t, len(c.Turns)-1, i)
			}
		}
	}
	require.Greater(t, canceled, 200)
}

func TestPeopleStayWithASubjectAndPlanTheSameFromTheSameSeed(t *testing.T) {
	t.Parallel()
	traffic := Traffic{Tail: 0.5, Seed: 1}.withDefaults()
	questions := someQuestions(200)
	one, again, other := newPerson(traffic, questions, 1), newPerson(traffic, questions, 1), newPerson(traffic, questions, 2)
	different := false
	for range 50 {
		plan := one.plan()
		require.Equal(t, plan, again.plan())
		different = different || len(plan.Turns) != len(other.plan().Turns)
		for _, turn := range plan.Turns[:min(9, len(plan.Turns))] {
			require.Equal(t, plan.Turns[0].Question.Group, turn.Question.Group)
		}
	}
	require.True(t, different)
}

func TestThumbsFollowFromWhatStandsInTheDocumentation(t *testing.T) {
	t.Parallel()
	traffic := Traffic{}.withDefaults()
	for name, tc := range map[string]struct {
		answer, documented, want string
	}{
		"all of it":           {"The client closes idle connections", "A Client closes the idle connections of its transport", "thumbs-up"},
		"none of it":          {"Some other words entirely", "A Client has pools", "thumbs-down"},
		"a word of many":      {"client words which nobody knows about", "A Client has pools", ""},
		"made up, but near":   {"clienting the connectives", "A Client closes its connections", "thumbs-up"},
		"too little to judge": {"it is a client", "it is a client", ""},
		"said again":          {"client client client client", "client", ""},
		"nothing at all":      {"", "client", ""},
		"no letters":          {"1234 5678 9012 3456 !!! ((()))", "1234", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			score, ok := Score(tc.answer, tc.documented)
			got := ""
			if ok {
				got = traffic.Thumb(score)
			}
			require.Equal(t, tc.want, got, "score %v", score)
		})
	}
}
