package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatIsCountedAndLogged(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/completions",
		strings.NewReader(`{"model":"m","prompt":"a secret prompt","max_tokens":3,"temperature":0,"seed":1}`))
	require.NoError(t, err)
	request.Header.Set("X-Request-Id", "r-1")
	request.Header.Set("X-Refit-Conversation-Hash", "c-1")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	var said completion
	require.NoError(t, json.NewDecoder(response.Body).Decode(&said))
	require.NoError(t, response.Body.Close())
	require.Equal(t, "r-1", response.Header.Get("X-Request-Id"))

	// Whoever has the answer finds the request counted.
	entries := r.log.entries(t)
	require.Len(t, entries, 1)
	a := entries[0]
	require.Equal(t, access{
		Time: a.Time, RequestID: "r-1", ConversationHash: "c-1", Model: "m", Endpoint: "completions", Outcome: "ok",
		PromptTokens: said.Usage.PromptTokens, CompletionTokens: said.Usage.CompletionTokens, WaitedSeconds: a.WaitedSeconds, Seconds: a.Seconds,
	}, a)
	require.GreaterOrEqual(t, a.Seconds, a.WaitedSeconds)
	require.NotContains(t, r.log.all.String(), "secret")
	require.NotContains(t, r.log.all.String(), quoted(t, said.Choices[0].Text))

	list := events[chatCompletion](r, "/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":4,"stream":true}`)
	require.NotEmpty(t, list)
	r.post("/v1/embeddings", `{"model":"e","input":"one two"}`)
	r.post("/v1/completions", `{"model":"other","prompt":"a"}`)
	_, metrics := r.get("/metrics")
	for _, line := range []string{
		`# TYPE refit_runtime_requests_total counter`,
		`refit_runtime_requests_total{model="m",endpoint="completions",outcome="ok"} 1`,
		`refit_runtime_requests_total{model="m",endpoint="chat",outcome="ok"} 1`,
		`refit_runtime_requests_total{model="e",endpoint="embeddings",outcome="ok"} 1`,
		`refit_runtime_requests_total{model="",endpoint="completions",outcome="not_found"} 1`,
		`refit_runtime_request_seconds_count{model="m",endpoint="chat"} 1`,
		`refit_runtime_requests_running{model="m"} 0`,
		`refit_runtime_prompt_tokens_total{model="e"} 2`,
		fmt.Sprintf(`refit_runtime_prompt_tokens_total{model="m"} %d`, said.Usage.PromptTokens+1),
	} {
		require.Contains(t, metrics, line+"\n")
	}
	require.Len(t, r.log.entries(t), 3, "what was not admitted has no line")
	require.True(t, r.log.entries(t)[1].Stream)
}

// longServer serves a model whose answers take long: a wide context, and no end before it.
func longServer(t *testing.T, config Config) (*Server, *lines) {
	t.Helper()
	log := new(lines)
	config.AccessLog, config.Log = log, slog.New(slog.NewTextHandler(io.Discard, nil))
	s := New(config)
	require.NoError(t, s.AddModel("m", tinyModel(t, 1<<14)))
	return s, log
}

// start serves until stop; ended gives what Serve returned.
func start(t *testing.T, s *Server, drain time.Duration) (url string, stop func(), ended <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener, drain) }()
	t.Cleanup(cancel)
	return "http://" + listener.Addr().String(), cancel, done
}

// endless is a request that goes on until somebody stops it: every end-of-text is followed by another choice.
const endless = `{"model":"m","messages":[{"role":"user","content":"a"}],"n":128,"temperature":2,"stream":true}`

// open begins a stream and returns after its first event.
func open(t *testing.T, ctx context.Context, url, body string) (*http.Response, *bufio.Reader) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	reader := bufio.NewReader(response.Body)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(line, "data: {"), line)
	return response, reader
}

func TestAClientThatLeavesStopsItsAnswer(t *testing.T) {
	t.Parallel()
	s, log := longServer(t, Config{Slots: 1})
	url, _, _ := start(t, s, time.Minute)
	ctx, leave := context.WithCancel(t.Context())
	open(t, ctx, url, endless)
	leave()
	require.Eventually(t, func() bool { return len(log.entries(t)) == 1 }, 20*time.Second, 5*time.Millisecond)
	a := log.entries(t)[0]
	require.Equal(t, "canceled", a.Outcome)
	require.Positive(t, a.CompletionTokens, "what was computed is counted")

	// The slot is free again.
	response, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"model":"m","prompt":"a","max_tokens":1}`))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
}

func TestOneWhoWaitsAndLeavesIsCounted(t *testing.T) {
	t.Parallel()
	s, log := longServer(t, Config{Slots: 1, Queue: 1})
	url, _, _ := start(t, s, time.Minute)
	ctx, leave := context.WithCancel(t.Context())
	open(t, ctx, url, endless)

	waiting, give := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		request, err := http.NewRequestWithContext(waiting, http.MethodPost, url+"/v1/completions", strings.NewReader(`{"model":"m","prompt":"a"}`))
		if err == nil {
			_, err = http.DefaultClient.Do(request) //nolint:bodyclose // there is no answer
		}
		gone <- err
	}()
	require.Eventually(t, func() bool { return s.slots.waiting.Load() == 1 }, 20*time.Second, time.Millisecond)

	// The queue is full: the next one is sent away at once.
	response, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"model":"m","prompt":"a"}`))
	require.NoError(t, err)
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode, string(raw))
	require.Equal(t, "1", response.Header.Get("Retry-After"))
	require.Contains(t, string(raw), `"type":"rate_limit_error"`)

	give()
	require.ErrorIs(t, <-gone, context.Canceled)
	require.Eventually(t, func() bool { return len(log.entries(t)) == 1 }, 20*time.Second, 5*time.Millisecond)
	leave()
	require.Eventually(t, func() bool { return len(log.entries(t)) == 2 }, 20*time.Second, 5*time.Millisecond)
	var metrics strings.Builder
	require.NoError(t, s.metrics.write(&metrics))
	require.Contains(t, metrics.String(), `{model="m",endpoint="completions",outcome="canceled"} 1`)
	require.Contains(t, metrics.String(), `{model="m",endpoint="completions",outcome="rejected"} 1`)
	require.Contains(t, metrics.String(), `refit_runtime_requests_running{model="m"} 0`)
}

func TestDrainingLetsAnAnswerEnd(t *testing.T) {
	t.Parallel()
	s, log := longServer(t, Config{})
	url, stop, ended := start(t, s, time.Minute)
	_, reader := open(t, t.Context(), url, `{"model":"m","messages":[{"role":"user","content":"a"}],"n":20,"max_tokens":30,"temperature":2,"stream":true}`)
	stop()
	rest, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(rest), "data: [DONE]\n\n"))
	require.NoError(t, <-ended)
	require.Equal(t, "ok", log.entries(t)[0].Outcome)
	_, err = http.Get(url + "/healthz") //nolint:bodyclose // nobody answers
	require.Error(t, err)
}

func TestDrainingDoesNotTakeForEver(t *testing.T) {
	t.Parallel()
	s, log := longServer(t, Config{})
	url, stop, ended := start(t, s, time.Millisecond)
	_, reader := open(t, t.Context(), url, endless)
	stop()
	require.ErrorIs(t, <-ended, context.DeadlineExceeded)
	rest, _ := io.ReadAll(reader)
	require.NotContains(t, string(rest), "[DONE]", "nobody takes it for an end")
	require.Eventually(t, func() bool { return len(log.entries(t)) == 1 }, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, "canceled", log.entries(t)[0].Outcome)
}

// Many at once get what each of them gets alone.
func TestAnswersDoNotMix(t *testing.T) {
	t.Parallel()
	r := serving(t, Config{Slots: 4})
	body := func(i int) string {
		return fmt.Sprintf(`{"model":"m","prompt":"The reader %d","max_tokens":12,"seed":%d}`, i, i)
	}
	const n = 16
	alone, together := make([]string, n), make([]string, n)
	for i := range n {
		alone[i] = ask[completion](r, "/v1/completions", body(i)).Choices[0].Text
	}
	done := make(chan error, n)
	for i := range n {
		go func() {
			response, err := http.Post(r.url+"/v1/completions", "application/json", strings.NewReader(body(i)))
			if err != nil {
				done <- err
				return
			}
			defer response.Body.Close()
			var said completion
			err = json.NewDecoder(response.Body).Decode(&said)
			if err == nil {
				together[i] = said.Choices[0].Text
			}
			done <- err
		}()
	}
	for range n {
		require.NoError(t, <-done)
	}
	require.Equal(t, alone, together)
}
