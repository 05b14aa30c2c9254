package answer

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// closing is a model server that answers so many requests of a connection and then closes it without a word.
func closing(t *testing.T, answers int, generated *atomic.Int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var open sync.WaitGroup
	t.Cleanup(func() { listener.Close(); open.Wait() })
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { conn.Close() }) // a connection that was made in reserve may never be used
			open.Go(func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for range answers {
					request, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, request.Body); err != nil {
						return
					}
					generated.Add(1)
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n"+`{"choices":[{"index":0,"text":"hi"}]}`)
				}
			})
		}
	})
	return "http://" + listener.Addr().String()
}

// Clients that ask as fast as they can meet many connections in the moment of their closing.
func TestConnectionsThatTheServerClosesCauseNeitherAnErrorNorASecondGeneration(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 20_000} { // in one write and in several
		var generated, answered atomic.Int64
		url := closing(t, 2, &generated)
		path, b := New(Settings{}), ready(t, nil, nil)
		body := []byte(`{"prompt":"` + strings.Repeat("x", size) + `"}`)
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for range 60 {
					if _, err := path.Do(t.Context(), b, Upstream{URL: url}, Request{Endpoint: Completions, Body: body}, &client{}); err != nil {
						t.Errorf("a request met a closed connection: %v", err)
						return
					}
					answered.Add(1)
				}
			})
		}
		clients.Wait()
		require.EqualValues(t, 240, answered.Load())
		require.Equal(t, answered.Load(), generated.Load(), "each request was answered once")
	}
}

func TestARequestThatTheServerReadIsNotSentAgain(t *testing.T) {
	t.Parallel()
	var read atomic.Int64
	m := newModelServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if read.Add(1)%2 == 0 {
			panic(http.ErrAbortHandler) // the second request of the connection: read, and no answer
		}
		saying(`{"choices":[{"index":0,"text":"hi"}]}`)(w, nil)
	})
	path, b := New(Settings{}), ready(t, nil, nil)
	ask := func() error {
		_, err := path.Do(t.Context(), b, Upstream{URL: m.URL}, Request{Endpoint: Completions, Body: []byte(`{"prompt":"x"}`)}, &client{})
		return err
	}
	for range 50 {
		require.NoError(t, ask())
		require.Error(t, ask())
	}
	require.EqualValues(t, 100, read.Load())
}

func TestALinkKnowsWhatWasNotTakenIn(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	pair := func() (*link, *net.TCPConn) {
		near, err := dialer(&net.Dialer{})(t.Context(), "tcp", listener.Addr().String())
		require.NoError(t, err)
		far, err := listener.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { near.Close(); far.Close() })
		require.NoError(t, near.SetDeadline(time.Now().Add(10*time.Second)))
		return near.(*link), far.(*net.TCPConn)
	}
	exchange := func(near *link, far *net.TCPConn) {
		_, err := near.Write([]byte("question"))
		require.NoError(t, err)
		_, err = io.ReadFull(far, make([]byte, 8))
		require.NoError(t, err)
		_, err = far.Write([]byte("answer"))
		require.NoError(t, err)
		_, err = io.ReadFull(near, make([]byte, 6))
		require.NoError(t, err)
	}
	var lost unheard
	if _, known := acknowledged(func() *net.TCPConn { near, _ := pair(); return near.TCPConn }()); !known {
		t.Skip("this kernel does not say what was acknowledged")
	}

	near, far := pair()
	exchange(near, far)
	require.NoError(t, far.Close())
	_, err = near.Write([]byte("too late"))
	for err == nil {
		_, err = near.Read(make([]byte, 10))
	}
	require.True(t, errors.As(err, &lost), "sent after the server had closed: %v", err)

	near, far = pair()
	exchange(near, far)
	_, err = near.Write([]byte("question"))
	require.NoError(t, err)
	_, err = io.ReadFull(far, make([]byte, 8))
	require.NoError(t, err)
	require.NoError(t, far.Close())
	_, err = near.Read(make([]byte, 10))
	require.Equal(t, io.EOF, err, "taken in, and no answer")

	near, far = pair()
	exchange(near, far)
	require.NoError(t, far.Close())
	_, err = near.Read(make([]byte, 10))
	require.Equal(t, io.EOF, err, "nothing was sent")
}
