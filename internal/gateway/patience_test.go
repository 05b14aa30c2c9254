package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// listen serves the world's gateway on an address of its own, until the test ends.
func (w *world) listen() (address string) {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	server := w.gateway.server()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(listener) }()
	w.t.Cleanup(func() { _ = server.Close(); <-ended })
	return listener.Addr().String()
}

// dial opens a connection on which nothing is waited for longer than a test may.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestWhoSendsHalfAHeadIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Patience = 200 * time.Millisecond })
	conn := dial(t, w.listen())
	_, err := io.WriteString(conn, "POST "+chatPath+" HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, conn)
	require.NoError(t, err, "the gateway closes the connection")
}

func TestAHeadThatIsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	conn := dial(t, w.listen())
	go func() {
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", chatPath, strings.Repeat("a", 64<<10))
	}()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, answer.StatusCode)
	require.Empty(t, w.upstream.asked())
}

// A client that takes nothing of its answer holds neither the gateway nor the model server.
func TestWhoTakesNothingOfItsAnswerIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Patience = 300 * time.Millisecond })
	left := make(chan struct{})
	w.upstream.behave(func(out http.ResponseWriter, r *http.Request, _ string) bool {
		defer close(left)
		out.Header().Set("Content-Type", "text/event-stream")
		chunk := "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + strings.Repeat("a", 60_000) + "\"}}]}\n\n"
		for r.Context().Err() == nil {
			if _, err := io.WriteString(out, chunk); err != nil {
				return true
			}
		}
		return true
	})
	conn := dial(t, w.listen())
	body := `{"model":"docs","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(body), body)
	require.NoError(t, err)
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Fatal("the model server still answers a client that takes nothing")
	}
	w.await(func() bool { return w.upstream.inUse(w) == 0 })
}

// A model server that takes its time is no slow client, and a connection goes on after such an answer.
func TestALongWaitForTheFirstByteIsNoSlowClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Patience = time.Second })
	w.upstream.behave(longerThanPatience)
	address := w.listen()
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for range 2 {
		answer, err := client.Post("http://"+address+chatPath, "application/json", strings.NewReader(chat("hi", 0)))
		require.NoError(t, err)
		raw, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		answer.Body.Close()
		require.Equal(t, http.StatusOK, answer.StatusCode, string(raw))
	}
}

// longerThanPatience is a model server that begins its answer after more than the second of patience.
func longerThanPatience(http.ResponseWriter, *http.Request, string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	return false
}

// inUse counts the places that are taken on the test's model server.
func (u *upstream) inUse(w *world) int {
	b := w.gateway.balancer
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.servers[u.server.URL]; s != nil {
		return s.inUse
	}
	return 0
}

// Over HTTP/2 too: the wait for a model server is no slow client, and streams of one connection do not end each other.
func TestPatienceOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Patience = time.Second })
	w.upstream.behave(longerThanPatience)
	server := httptest.NewUnstartedServer(nil)
	server.Config, server.EnableHTTP2 = w.gateway.server(), true
	server.StartTLS()
	t.Cleanup(server.Close)
	for range 2 {
		answer, err := server.Client().Post(server.URL+chatPath, "application/json", strings.NewReader(chat("hi", 0)))
		require.NoError(t, err)
		raw, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		answer.Body.Close()
		require.Equal(t, "HTTP/2.0", answer.Proto)
		require.Equal(t, http.StatusOK, answer.StatusCode, string(raw))
	}
}
