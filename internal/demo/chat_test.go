package demo

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// fakeGateway answers like the gateway and remembers what it was asked.
type fakeGateway struct {
	mu       sync.Mutex
	chats    []fakeChat
	feedback []map[string]string
	left     chan struct{} // a client left a stream
	said     string
	status   int
}

type fakeChat struct {
	key, bearer string
	messages    []Message
	stream      bool
}

func newFakeGateway(t *testing.T, said string) (*fakeGateway, string) {
	t.Helper()
	f := &fakeGateway{said: said, left: make(chan struct{}, 1000), status: http.StatusOK}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", f.chat)
	mux.HandleFunc("POST /v1/feedback", func(w http.ResponseWriter, r *http.Request) {
		var said map[string]string
		if json.NewDecoder(r.Body).Decode(&said) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		f.mu.Lock()
		f.feedback = append(f.feedback, said)
		f.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return f, server.URL
}

func (f *fakeGateway) chat(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Model    string    `json:"model"`
		Messages []Message `json:"messages"`
		Stream   bool      `json:"stream"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.Model != "docs" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	f.chats = append(f.chats, fakeChat{r.Header.Get("X-Refit-Conversation"), r.Header.Get("Authorization"), body.Messages, body.Stream})
	f.mu.Unlock()
	w.Header().Set("X-Refit-Conversation", "key of "+body.Messages[0].Content)
	w.Header().Set("X-Refit-Interaction", "int-1")
	w.Header().Set("X-Refit-Release", "abc")
	if f.status != http.StatusOK {
		w.WriteHeader(f.status)
		return
	}
	if !body.Stream {
		_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{map[string]any{
			"message": Message{"assistant", f.said}, "finish_reason": "stop",
		}}})
		return
	}
	for _, word := range strings.SplitAfter(f.said, " ") {
		raw, _ := json.Marshal(map[string]any{"choices": []any{map[string]any{"delta": map[string]string{"content": word}}}})
		_, _ = io.WriteString(w, ": a comment\n\ndata: "+string(raw)+"\n\n")
		w.(http.Flusher).Flush()
	}
	if strings.HasSuffix(f.said, "…") { // goes on until the client leaves
		<-r.Context().Done()
		f.left <- struct{}{}
		return
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

func ask(url string, stream, cancel bool) (Reply, error) {
	client := chatClient{http: http.DefaultClient, gateway: url, service: "docs", bearer: "someone"}
	return client.ask(context.Background(), []Message{{"user", "what?"}}, "", stream, cancel)
}

func TestAClientReadsWholeAnswersAndStreams(t *testing.T) {
	t.Parallel()
	_, url := newFakeGateway(t, "two words")
	for _, stream := range []bool{false, true} {
		reply, err := ask(url, stream, false)
		require.NoError(t, err)
		require.Equal(t, "two words", reply.Text)
		require.Equal(t, "key of what?", reply.Key)
		require.Equal(t, "int-1", reply.Interaction)
		require.Equal(t, lifecycle.Digest("abc"), reply.Release)
		require.False(t, reply.Canceled)
	}
}

func TestAClientThatLeavesReallyLeaves(t *testing.T) {
	t.Parallel()
	gateway, url := newFakeGateway(t, "it goes on…")
	reply, err := ask(url, true, true)
	require.NoError(t, err)
	require.True(t, reply.Canceled)
	select {
	case <-gateway.left:
	case <-time.After(30 * time.Second):
		t.Fatal("the server never saw the client leave")
	}
}

func TestAStreamThatBreaksOffIsNoAnswer(t *testing.T) {
	t.Parallel()
	var r Reply
	err := r.readStream(strings.NewReader("data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n"), func() bool { return false })
	require.ErrorContains(t, err, "[DONE]")
}

func TestACrowdAsksInConversationsAndSaysWhatItThinks(t *testing.T) {
	t.Parallel()
	gateway, url := newFakeGateway(t, "nothing documented stands here")
	crowd := &Crowd{
		Gateway: url, Service: "docs", HTTP: http.DefaultClient, Log: slog.New(slog.DiscardHandler),
		Traffic:   Traffic{Clients: 3, Pause: time.Microsecond, Keyed: 0.5, Tail: 1},
		Questions: someQuestions(40),
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { crowd.Run(ctx); close(done) }()
	require.Eventually(t, func() bool { return crowd.Tally().Conversations > 200 }, 30*time.Second, time.Millisecond)
	stop()
	<-done

	tally := crowd.Tally()
	require.Positive(t, tally.Keyless)
	require.Greater(t, tally.LongestTurns, 2)
	require.Positive(t, tally.Streamed)
	require.Positive(t, tally.Thumbs["thumbs-down"])
	require.Zero(t, tally.Thumbs["thumbs-up"])
	require.Equal(t, tally.Requests, tally.Answered+tally.Canceled+tally.Failed)

	gateway.mu.Lock()
	defer gateway.mu.Unlock()
	bearers, handedBack, kept := map[string]bool{}, 0, 0
	for _, c := range gateway.chats {
		bearers[c.bearer] = true
		require.Equal(t, 1, len(c.messages)%2, "a person speaks last")
		if len(c.messages) == 1 {
			require.Empty(t, c.key, "a new conversation has no key yet")
			continue
		}
		kept++
		if c.key != "" {
			handedBack++
			require.Equal(t, "key of "+c.messages[0].Content, c.key)
		}
	}
	require.Len(t, bearers, 3)
	require.Positive(t, handedBack)
	require.Less(t, handedBack, kept, "some have no key")
	corrections := 0
	for _, f := range gateway.feedback {
		require.Equal(t, "int-1", f["interaction"])
		if f["kind"] == "correction" {
			corrections++
			require.Equal(t, "text", f["correction"])
		}
	}
	require.Positive(t, corrections)
}

func TestARefusedClientIsCountedAndNotAnswered(t *testing.T) {
	t.Parallel()
	gateway, url := newFakeGateway(t, "")
	gateway.status = http.StatusTooManyRequests
	crowd := &Crowd{
		Gateway: url, Service: "docs", HTTP: http.DefaultClient, Log: slog.New(slog.DiscardHandler),
		Traffic: Traffic{Clients: 1, Pause: time.Microsecond}, Questions: someQuestions(40),
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { crowd.Run(ctx); close(done) }()
	require.Eventually(t, func() bool { return crowd.Tally().Turned > 0 }, 30*time.Second, time.Millisecond)
	stop()
	<-done
	require.Zero(t, crowd.Tally().Answered)
}
