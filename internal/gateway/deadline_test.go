package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/telemetry"
)

// limited is a world whose service has time limits.
func limited(t *testing.T, whole, firstByte time.Duration) *world {
	t.Helper()
	return newWorld(t, func(c *Config) {
		serving := &c.Store.(*store).service.Serving
		serving.TimeLimit, serving.FirstByte = lifecycle.Duration(whole), lifecycle.Duration(firstByte)
	})
}

// hanging is a model server that says something and then nothing until whoever asks gives up. Where a model is named
// only that one hangs.
func hanging(model, begin string) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, r *http.Request, asked string) bool {
		if model != "" && asked != model {
			return false
		}
		if begin != "" {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, begin)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		return true
	}
}

// admitted asks until a request was not turned away: on a busy machine the time may be over before that.
func (w *world) admitted(header http.Header, body string) (reply, lifecycle.Interaction) {
	w.t.Helper()
	for range 50 {
		before := len(w.captured.interactions)
		r := w.do(func(r *http.Request) { addAll(r.Header, header) }, chatPath, body, "")
		if len(w.captured.interactions) > before {
			return r, w.captured.last(w.t)
		}
	}
	require.Fail(w.t, "every request was turned away")
	panic("unreachable")
}

func addAll(to, header http.Header) {
	for name, values := range header {
		to[name] = values
	}
}

func TestALimitThatEndsAnAnswerBeforeItsFirstByteIs504(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		whole, firstByte time.Duration
		header           http.Header
		body             string
		outcome          string
	}{
		"the service's": {whole: 100 * time.Millisecond, body: chat("hello", 0), outcome: "error"},
		"the service's, where the client gives more": {
			whole: 100 * time.Millisecond, header: http.Header{answer.HeaderTimeLeft: {"3600000"}, "X-Stainless-Timeout": {"600"}},
			body: streamed("hello"), outcome: "error",
		},
		"the service's for the first byte": {firstByte: 100 * time.Millisecond, body: streamed("hello"), outcome: "error"},
		"a proxy's": {
			whole: time.Hour, header: http.Header{answer.HeaderTimeLeft: {"100"}}, body: chat("hello", 0), outcome: "canceled",
		},
		"the client's, for a stream":        {header: http.Header{"X-Stainless-Read-Timeout": {"0.1"}}, body: streamed("hello"), outcome: "canceled"},
		"the client's, for a whole":         {header: http.Header{"X-Stainless-Timeout": {"0.1"}}, body: chat("hello", 0), outcome: "canceled"},
		"the shorter one of a client's two": {header: http.Header{"X-Stainless-Timeout": {"600"}, "X-Stainless-Read-Timeout": {"0.1"}}, body: streamed("hello"), outcome: "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := limited(t, tc.whole, tc.firstByte)
			w.upstream.behave(hanging("", ""))
			r, i := w.admitted(tc.header, tc.body)
			require.Equal(t, http.StatusGatewayTimeout, r.Code, r.Body.String())
			require.Contains(t, r.Body.String(), `"code":"timeout"`)
			require.Equal(t, i.ID, r.Header().Get(headerInteraction))
			require.Equal(t, http.StatusGatewayTimeout, i.Status)
			require.Equal(t, tc.outcome, i.Outcome)
		})
	}
}

func TestALimitInTheMiddleOfAStreamBreaksItOff(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		whole   time.Duration
		header  http.Header
		outcome string
		status  int
	}{
		"the service's": {whole: 200 * time.Millisecond, outcome: "error", status: 504},
		"a proxy's":     {header: http.Header{answer.HeaderTimeLeft: {"200"}}, outcome: "canceled", status: 499},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := limited(t, tc.whole, 0)
			url := w.serveTCP()
			w.upstream.behave(hanging("", oneChunk))
			var response *http.Response
			for range 50 { // on a busy machine the time may be over before the stream begins
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+chatPath, strings.NewReader(streamed("hello")))
				require.NoError(t, err)
				addAll(request.Header, tc.header)
				response, err = http.DefaultClient.Do(request)
				require.NoError(t, err)
				defer response.Body.Close()
				if response.StatusCode == http.StatusOK {
					break
				}
			}
			require.Equal(t, http.StatusOK, response.StatusCode)
			said, err := io.ReadAll(response.Body)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "never a clean end")
			require.Contains(t, string(said), "one")
			require.NotContains(t, string(said), "[DONE]")
			i := w.captured.last(t)
			require.Equal(t, tc.outcome, i.Outcome)
			require.Equal(t, tc.status, i.Status)
		})
	}
}

func TestWhoseTimeIsOverInTheQueueIsTurnedAway(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) {
		c.QueueTime, c.Metrics, c.MetricsHandler = time.Hour, registry, telemetry.Handler(registry)
		c.Store.(*store).endpoints[0].Capacity = 1
	})
	came, leave := make(chan struct{}), make(chan struct{})
	w.upstream.behave(func(http.ResponseWriter, *http.Request, string) bool {
		close(came)
		<-leave
		return false
	})
	first := make(chan reply)
	go func() { first <- w.ask(chatPath, chat("hello", 0), "") }()
	<-came
	r := w.do(func(r *http.Request) { r.Header.Set(answer.HeaderTimeLeft, "20") }, chatPath, chat("hello", 0), "")
	require.Equal(t, http.StatusGatewayTimeout, r.Code, r.Body.String())
	require.Contains(t, r.Body.String(), `"code":"timeout"`)
	close(leave)
	require.Equal(t, http.StatusOK, (<-first).Code)
	require.Len(t, w.upstream.asked(), 1)
	require.Contains(t, w.get("/metrics").Body.String(), `refit_gateway_shed_total{reason="deadline",service="docs"} 1`)
	require.Equal(t, 2, w.captured.arrived)
	require.Equal(t, 1, w.captured.shed)
	require.Len(t, w.captured.interactions, 1)
}

// A place that is likely to come long after the time is over is not waited for.
func TestWhoCannotGetAPlaceInTimeIsToldSoAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(time.Hour, 4, time.Second, time.Now)
		server := places(1, 1)
		p, err := b.acquire(t.Context(), server)
		require.NoError(t, err)
		time.Sleep(10 * time.Second) // of the test's own clock
		p.done(serverAnswered)
		p, err = b.acquire(t.Context(), server)
		require.NoError(t, err)
		defer p.done(serverUnasked)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errClientLimit)
		defer cancel()
		began := time.Now()
		_, err = b.acquire(ctx, server)
		require.ErrorIs(t, err, errFull)
		require.Zero(t, time.Since(began))
		enough, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errClientLimit)
		defer cancel()
		_, err = b.acquire(enough, server)
		require.ErrorIs(t, err, errClientLimit)
		require.Equal(t, 5*time.Second, time.Since(began))
	})
}

// canaryThat asks until the canary was tried and something is so.
func (w *world) canaryThat(header http.Header, so func(reply, lifecycle.Interaction) bool) (reply, lifecycle.Interaction) {
	w.t.Helper()
	for n := range 300 {
		r, i := w.admitted(header, chat(fmt.Sprint("a", n), 0))
		if i.Canary && so(r, i) {
			return r, i
		}
	}
	require.Fail(w.t, "the canary got no such request")
	panic("unreachable")
}

func anyway(reply, lifecycle.Interaction) bool { return true }

func TestTheServicesLimitIsTheCanarysFailure(t *testing.T) {
	t.Parallel()
	w := limited(t, 100*time.Millisecond, 0)
	w.rollout(9999)
	w.upstream.behave(hanging(w.canary.ServedName(), ""))
	r, i := w.canaryThat(nil, anyway)
	require.Equal(t, http.StatusGatewayTimeout, r.Code)
	require.Equal(t, string(w.canary.ID()), r.release())
	require.Equal(t, "error", i.Outcome)
	require.Equal(t, w.canary.ID(), i.Release)
	require.False(t, i.Rescued, "no time is left for stable")
}

func TestStableAnswersForACanaryWhileTimeIsLeft(t *testing.T) {
	t.Parallel()
	w := limited(t, time.Hour, 100*time.Millisecond)
	w.rollout(9999)
	w.upstream.behave(hanging(w.canary.ServedName(), ""))
	// On a busy machine stable may be late, too.
	r, i := w.canaryThat(nil, func(r reply, i lifecycle.Interaction) bool { return r.Code == http.StatusOK })
	require.Equal(t, string(w.stable.ID()), r.release())
	require.True(t, i.Rescued)
	require.Equal(t, "error", i.Outcome)
	asked, header := w.upstream.asked(), w.upstream.header
	n := len(asked)
	require.Equal(t, []string{w.canary.ServedName(), w.stable.ServedName()}, asked[n-2:])
	require.Less(t, left(t, header[n-1]), left(t, header[n-2])-90, "stable gets what is left")
}

// A client that gave the answer no more time is one that left, on either side.
func TestTheClientsLimitIsNoFailureOfTheCanary(t *testing.T) {
	t.Parallel()
	w := limited(t, time.Hour, 0)
	w.rollout(9999)
	w.upstream.behave(hanging(w.canary.ServedName(), ""))
	r, i := w.canaryThat(http.Header{answer.HeaderTimeLeft: {"100"}}, anyway)
	require.Equal(t, http.StatusGatewayTimeout, r.Code)
	require.Equal(t, "canceled", i.Outcome)
	require.False(t, i.Rescued)
	require.NotEqual(t, http.StatusOK, i.Status)
}

func left(t *testing.T, h http.Header) int {
	t.Helper()
	ms, err := strconv.Atoi(h.Get(answer.HeaderTimeLeft))
	require.NoError(t, err)
	return ms
}

func TestTheTimeThatIsLeftReachesTheModelServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		whole  time.Duration
		header http.Header
		most   int // milliseconds; 0: nothing is said
	}{
		"none":                             {},
		"the service's":                    {whole: time.Hour, most: 3_600_000},
		"a proxy's":                        {header: http.Header{answer.HeaderTimeLeft: {"600000"}}, most: 600_000},
		"a client's, of a whole answer":    {header: http.Header{"X-Stainless-Timeout": {"600"}}, most: 600_000},
		"more than the service's":          {time.Hour, http.Header{answer.HeaderTimeLeft: {"7200000"}}, 3_600_000},
		"absurd":                           {time.Hour, http.Header{answer.HeaderTimeLeft: {"-1"}, "X-Stainless-Timeout": {"0"}}, 3_600_000},
		"absurd, and the service has none": {header: http.Header{answer.HeaderTimeLeft: {"99999999999999999999"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := limited(t, tc.whole, 0)
			require.Equal(t, http.StatusOK, w.do(func(r *http.Request) { addAll(r.Header, tc.header) }, chatPath, chat("hello", 0), "").Code)
			got := w.upstream.header[0]
			if tc.most == 0 {
				require.Empty(t, got.Values(answer.HeaderTimeLeft))
				return
			}
			require.LessOrEqual(t, left(t, got), tc.most)
			require.Greater(t, left(t, got), tc.most-300_000)
		})
	}
}

func TestAClientsWaitBoundsAStreamsBeginningOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, begun, end := limits{whole: time.Minute, firstByte: time.Second}.hold(t.Context(), time.Now())
		defer end()
		begun()
		time.Sleep(59 * time.Second) // of the test's own clock
		require.NoError(t, ctx.Err())
		time.Sleep(time.Second)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(ctx), errServiceLimit)

		late, _, end := limits{whole: time.Minute, firstByte: time.Second}.hold(t.Context(), time.Now())
		defer end()
		time.Sleep(time.Second)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(late), errClientLimit)
		require.True(t, overdue(late))

		gone, leave := context.WithCancel(t.Context())
		held, _, end := limits{whole: time.Minute}.hold(gone, time.Now())
		defer end()
		leave()
		require.False(t, overdue(held), "a client that left has no limit that is over")
		require.Equal(t, answer.OutcomeCanceled, outcomeOf(held))
	})
}

func TestOnlyTheServicesLimitSpeaksAgainstAServer(t *testing.T) {
	t.Parallel()
	over := func(why error) context.Context {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		return ctx
	}
	l := limits{whole: time.Second}
	took := func(model float64) *answer.Result { return &answer.Result{Latency: lifecycle.Latency{Model: model}} }
	require.True(t, l.tooSlow(over(errServiceLimit), took(0.9)))
	require.False(t, l.tooSlow(over(errServiceLimit), took(0.1)), "another one had used up the time")
	require.False(t, l.tooSlow(over(errServiceLimit), &answer.Result{Started: true, Latency: lifecycle.Latency{Model: 1}}), "it had much to say")
	require.False(t, l.tooSlow(over(errClientLimit), took(0.9)))
	require.Equal(t, serverUnasked, attemptOf(over(errClientLimit), took(0.9), errors.New("over")))
}

// Whatever clients send: it is not believed, or it is a time within the bounds.
func FuzzClientTime(f *testing.F) {
	for _, value := range []string{"600", "0.5", "600.0", "", "0", "-1", "1e3", "NaN", "inf", "0x10", "1_0", "9999999999999999999999", " 5", "5s", ".", "1.2.3", "00005"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		h := http.Header{"X-Stainless-Timeout": {value}}
		got := clientTime(h, "X-Stainless-Timeout", time.Second)
		require.True(t, got == 0 || got >= shortestLimit && got <= longestLimit, got)
		n, err := strconv.ParseFloat(value, 64)
		require.True(t, got == 0 || err == nil && n > 0)
		h["X-Stainless-Timeout"] = []string{value, value}
		require.Zero(t, clientTime(h, "X-Stainless-Timeout", time.Second), "twice is not once")
	})
}

func TestClientTime(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"600": 10 * time.Minute, "600.0": 10 * time.Minute, "0.5": 500 * time.Millisecond, "86400": 24 * time.Hour,
		"86401": 0, "0": 0, "0.0001": 0, "-5": 0, "1e3": 0, "NaN": 0, "inf": 0, "soon": 0, "": 0, ".": 0, "5 ": 0,
	} {
		require.Equal(t, want, clientTime(http.Header{"X-Stainless-Timeout": {value}}, "X-Stainless-Timeout", time.Second), value)
	}
}
