package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// judge sends feedback on an interaction.
func (w *world) judge(secret string, said map[string]string) reply {
	w.t.Helper()
	raw, err := json.Marshal(said)
	require.NoError(w.t, err)
	return w.do(bearer(secret), "/v1/feedback", string(raw), "")
}

func TestFeedback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	id := w.ask(chatPath, chat("hello", 0), "").Header().Get(headerInteraction)
	require.LessOrEqual(t, len(id), maxID)
	r := w.judge("", map[string]string{"interaction": id, "kind": "thumbs-down", "reason": "wrong"})
	require.Equal(t, http.StatusAccepted, r.Code, r.Body.String())
	again := w.judge("", map[string]string{"service": "docs", "interaction": id, "kind": "thumbs-down"})
	require.Equal(t, r.Body.String(), again.Body.String(), "the same feedback has the same ID")
	other := w.judge("", map[string]string{"interaction": id, "kind": "thumbs-up"})
	require.NotEqual(t, r.Body.String(), other.Body.String())
	require.Len(t, w.captured.feedback, 3)
	require.Equal(t, "wrong", w.captured.feedback[0].Reason)
	require.Equal(t, "docs", w.captured.feedback[0].Service)

	w.captured.err = lifecycle.Errorf(lifecycle.Unavailable, "the spool is full")
	require.Equal(t, http.StatusServiceUnavailable, w.judge("", map[string]string{"interaction": id, "kind": "thumbs-up"}).Code)
	require.Equal(t, http.StatusNotFound, w.judge("", map[string]string{"service": "x", "interaction": id, "kind": "thumbs-up"}).Code)
}

func TestFeedbackIsTheClientsWhoGotTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Keys = KeysOptional })
	mine, _ := w.key(nil)
	theirs, _ := w.key(func(k *lifecycle.APIKey) { k.Name = "other" })
	answered := func(secret string) string {
		return w.do(bearer(secret), chatPath, chat("hello", 0), "").Header().Get(headerInteraction)
	}
	own, open := answered(mine), answered("")
	changed := own[:len(own)-1] + string('a'+(own[len(own)-1]-'a'+1)%2)
	for name, tc := range map[string]struct {
		secret, interaction string
		status              int
	}{
		"its own":                      {mine, own, http.StatusAccepted},
		"another client's":             {theirs, own, http.StatusForbidden},
		"a key's, without the key":     {"", own, http.StatusForbidden},
		"nobody's, with a key":         {theirs, open, http.StatusAccepted},
		"nobody's, without one":        {"", open, http.StatusAccepted},
		"one that never was":           {mine, idPrefix + strings.Repeat("a", idRandom) + "-aaaaaaaaaaaaa", http.StatusForbidden},
		"one with another tag":         {mine, changed, http.StatusForbidden},
		"no ID of an interaction":      {mine, "hello", http.StatusForbidden},
		"a former release's, unsigned": {mine, idPrefix + strings.Repeat("a", idRandom), http.StatusAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.judge(tc.secret, map[string]string{"interaction": tc.interaction, "kind": "thumbs-down"})
			require.Equal(t, tc.status, r.Code, r.Body.String())
			if tc.status == http.StatusForbidden {
				_, code := r.fault(t)
				require.Equal(t, "not_your_interaction", code)
			}
		})
	}
	w.rollout(5000)
	second := w.second() // which never saw the interaction
	require.Equal(t, http.StatusAccepted, second.judge(mine, map[string]string{"interaction": own, "kind": "abandoned"}).Code)
	require.Equal(t, http.StatusForbidden, second.judge(theirs, map[string]string{"interaction": own, "kind": "abandoned"}).Code)
	require.NotEmpty(t, w.captured.last(t).Conversation)
	w.do(bearer(mine), chatPath, chat("hello", 0), "")
	require.NotEmpty(t, w.captured.last(t).Owner)
	require.NotContains(t, w.captured.last(t).Owner, "rfk_")
}

// A client that chooses its ID for feedback as somebody else does keeps nobody's out.
func TestAnIDOfFeedbackIsTheClientsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.ask(chatPath, chat("one", 0), "").Header().Get(headerInteraction)
	second := w.ask(chatPath, chat("two", 0), "").Header().Get(headerInteraction)
	for _, interaction := range []string{first, second, first} {
		require.Equal(t, http.StatusAccepted, w.judge("", map[string]string{"id": "1", "interaction": interaction, "kind": "thumbs-up"}).Code)
	}
	said := w.captured.feedback
	require.Equal(t, said[0].ID, said[2].ID)
	require.NotEqual(t, said[0].ID, said[1].ID)
}

func FuzzMayJudge(f *testing.F) {
	s := newSigner([]byte(strings.Repeat("k", 32)))
	f.Add(s.newInteraction("docs", "a"), "a")
	f.Add("int-", "")
	f.Fuzz(func(t *testing.T, id, owner string) {
		_ = s.mayJudge("docs", owner, id)
		given := s.newInteraction("docs", "somebody")
		if owner != "somebody" && s.mayJudge("docs", owner, given) {
			t.Fatalf("%q may judge what was given to another", owner)
		}
	})
}
