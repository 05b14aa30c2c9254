package gateway

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// shadowStep gives a world in a rollout's shadow step: its candidate, on a server of its own, gets copies of all requests.
func shadowStep(t *testing.T, edit func(*lifecycle.ShadowStep)) (*world, *upstream, lifecycle.Release) {
	t.Helper()
	w, server, candidate, _ := castsShadows(t, func(s *lifecycle.Shadow) {
		*s = lifecycle.Shadow{Release: s.Release, Share: 1, AtOnce: 1, PerMinute: 1, Deadline: s.Deadline}
	})
	w.store.change(func(s *store) {
		step := lifecycle.ShadowStep{AtOnce: 8, PerMinute: 1000, Deadline: lifecycle.Duration(time.Minute)}
		if edit != nil {
			edit(&step)
		}
		s.service.Shadow, s.service.Rollout.Shadow = lifecycle.Shadow{}, &step
	})
	l := w.gateway.lane("docs")
	w.await(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.service.Rollout.Shadow != nil
	})
	w.canary = candidate
	w.rollout(0)
	w.await(func() bool { // the rollout took the release that the declaration named before
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.canary != nil && len(l.canary.servers()) == 1
	})
	w.route(func(r *lifecycle.Route) { r.Shadow, r.Step = lifecycle.Whole, lifecycle.ShadowIndex })
	return w, server, candidate
}

func TestInAShadowStepTheCandidateGetsCopiesAndNobodySeesItsAnswers(t *testing.T) {
	t.Parallel()
	w, server, candidate := shadowStep(t, nil)
	for i := range 6 {
		r := w.ask(chatPath, chat(fmt.Sprint(i), 0), "")
		require.Equal(t, http.StatusOK, r.Code)
		require.Equal(t, string(w.stable.ID()), r.release())
		w.await(func() bool { _, s := w.pairs(); return len(s) == i+1 })
	}
	users, shadows := w.pairs()
	require.Len(t, server.asked(), 6)
	require.Zero(t, w.counts().canary)
	of := map[string]lifecycle.Interaction{}
	for _, u := range users {
		require.Equal(t, "rollout-1", u.Rollout)
		require.Equal(t, lifecycle.ShadowIndex, u.Step)
		require.False(t, u.Coin || u.Canary, "nobody tosses")
		of[lifecycle.ShadowPrefix+u.ID] = u
	}
	for _, s := range shadows {
		require.Contains(t, of, s.ID)
		require.Equal(t, candidate.ID(), s.Release)
		require.Empty(t, s.Rollout)
		require.False(t, s.Canary || s.Coin)
	}

	w.route(func(r *lifecycle.Route) { r.Shadow, r.Share, r.Step = 0, 1, 0 })
	for i := range 5 {
		require.Equal(t, http.StatusOK, w.ask(chatPath, chat(fmt.Sprint("after", i), 0), "").Code)
	}
	w.stop() // which waits for copies
	require.Len(t, server.asked(), 6, "with the first share there are no copies any more")
}

// What the candidate's servers count from the first share on is users'.
func TestTheEndOfAShadowStepEndsItsCopies(t *testing.T) {
	t.Parallel()
	w, server, _ := shadowStep(t, nil)
	arrived := make(chan struct{}, 1)
	server.behave(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		arrived <- struct{}{}
		<-r.Context().Done()
		return true
	})
	require.Equal(t, http.StatusOK, w.ask(chatPath, chat("one", 0), "").Code)
	<-arrived
	l := w.gateway.lane("docs")
	waiting := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.known.coins)
	}
	require.Equal(t, 1, waiting(), "how the copy ends is not known yet")
	w.route(func(r *lifecycle.Route) { r.Shadow = 0 })
	w.await(func() bool { _, s := w.pairs(); return len(s) == 1 })
	_, shadows := w.pairs()
	require.Equal(t, answer.OutcomeCanceled, shadows[0].Outcome)
	w.await(func() bool { return waiting() == 0 })
	require.Equal(t, http.StatusOK, w.ask(chatPath, chat("two", 0), "").Code)
	w.stop()
	require.Len(t, server.asked(), 1)
}

func TestAShadowStepIsALease(t *testing.T) {
	t.Parallel()
	w, server, _ := shadowStep(t, nil)
	w.clock.move(lifecycle.LeaseTime)
	require.Equal(t, http.StatusOK, w.ask(chatPath, chat("nobody watches", 0), "").Code)
	w.route(func(r *lifecycle.Route) { r.Lease++ })
	require.Equal(t, http.StatusOK, w.ask(chatPath, chat("somebody does", 0), "").Code)
	w.await(func() bool { _, s := w.pairs(); return len(s) == 1 })
	require.Len(t, server.asked(), 1)
}

func TestAShadowStepUsesUsersServersOnlyWhereItMay(t *testing.T) {
	t.Parallel()
	for shared, want := range map[bool]int{false: 0, true: 1} {
		w, server, candidate := shadowStep(t, func(s *lifecycle.ShadowStep) { s.Shared = shared })
		w.movesToStablesServer(candidate)
		require.Equal(t, http.StatusOK, w.ask(chatPath, chat("one", 0), "").Code)
		w.stop()
		_, shadows := w.pairs()
		require.Len(t, shadows, want)
		require.Empty(t, server.asked())
	}
}
