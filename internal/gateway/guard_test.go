package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// raw sends bytes over a connection of its own, in pieces, and gives the statuses of all that was answered until
// the gateway closed the connection.
func raw(t *testing.T, address string, sent string, piece int) (statuses []int, said string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	go func() {
		for rest := sent; rest != ""; {
			n := min(piece, len(rest))
			if _, err := io.WriteString(conn, rest[:n]); err != nil {
				return // the gateway does not want the rest
			}
			rest = rest[n:]
		}
	}()
	r := bufio.NewReader(conn)
	for {
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			var timeout net.Error
			require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the gateway keeps the connection after %v %s", statuses, said)
			return statuses, said // the end, or a reset after an answer to what was not read whole
		}
		body, _ := io.ReadAll(response.Body)
		statuses, said = append(statuses, response.StatusCode), said+string(body)
		if response.Close {
			return statuses, said
		}
	}
}

// serving runs the world's gateway on a listener of its own, as a process does.
func (w *world) serving(t *testing.T) string {
	t.Helper()
	w.stop()
	gateway, err := New(w.config)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.gateway = gateway
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gateway.Serve(ctx, listener) }()
	t.Cleanup(func() { cancel(); <-ended })
	require.Eventually(t, func() bool {
		response, err := http.Get("http://" + listener.Addr().String() + "/readyz")
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	}, 10*time.Second, 5*time.Millisecond)
	return listener.Addr().String()
}

func TestRequestsThatCanBeReadInTwoWaysAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	address := w.serving(t)
	body := chat("hello", 0)
	sized := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
	smuggled := "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n" + sized + "\r\n" + body
	for name, request := range map[string]string{
		"length and chunks":             head + sized + "Transfer-Encoding: chunked\r\n\r\n" + chunks,
		"chunks and length":             head + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunks,
		"two lengths":                   head + sized + "Content-Length: 0\r\n\r\n" + body,
		"one length twice":              head + sized + sized + "\r\n" + body,
		"lengths in a list":             head + "Content-Length: 4, 4\r\n\r\nabcd",
		"a signed length":               head + "Content-Length: +4\r\n\r\nabcd",
		"a length in hexadecimal":       head + "Content-Length: 0x4\r\n\r\nabcd",
		"a space before the colon":      head + "Content-Length : 4\r\n\r\nabcd",
		"an encoding that is not known": head + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks,
		"an encoding in disguise":       head + "Transfer-Encoding: xchunked\r\n\r\n" + chunks,
		"two encodings":                 head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunks,
		"chunks in HTTP/1.0":            "POST /v1/chat/completions HTTP/1.0\r\nHost: gateway\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
		"a folded line":                 head + sized + "X-Note: a\r\n Transfer-Encoding: chunked\r\n\r\n" + body,
		"a folded encoding":             head + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunks,
		"a bare line feed":              head + "X-Note: a\nContent-Length: 0\r\n\r\n",
		"a bare carriage return":        head + "X-Note: a\rContent-Length: 0\r\n\r\n",
		"a zero in a field":             head + "X-Note: a\x00b\r\n\r\n",
		"a chunk without its size":      head + "Transfer-Encoding: chunked\r\n\r\n\r\n" + body + "\r\n0\r\n\r\n",
		"a chunk of another size":       head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
		"a chunk's size too large":      head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nabc\r\n0\r\n\r\n",
		"a chunk's size with a sign":    head + "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
		"a chunk with an extension":     head + "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
		"a chunk ended by a line feed":  head + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
		"a trailer":                     head + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
		"no host":                       "POST /v1/chat/completions HTTP/1.1\r\n" + sized + "\r\n" + body,
		"two hosts":                     head + "Host: other\r\n" + sized + "\r\n" + body,
		"a host that is none":           "POST /v1/chat/completions HTTP/1.1\r\nHost: a b/c\r\n" + sized + "\r\n" + body,
		"another host as target":        "POST http://127.0.0.1:1/v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n" + sized + "\r\n" + body,
		"a tunnel":                      "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: gateway\r\n\r\n",
	} {
		for _, piece := range []int{1 << 20, 1} {
			statuses, said := raw(t, address, request+smuggled, piece)
			require.LessOrEqual(t, len(statuses), 1, "%s: what comes after is not answered: %v", name, statuses)
			for _, status := range statuses {
				require.Equal(t, http.StatusBadRequest, status/100*100, "%s: %s", name, said)
			}
		}
	}
	require.Empty(t, w.upstream.asked())
}

func TestPlainRequestsPassTheGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	address := w.serving(t)
	body := chat("hello", 0)
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
	sized := head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	chunks := head + fmt.Sprintf("Transfer-Encoding: Chunked\r\n\r\n5\r\n%s\r\n%X\r\n%s\r\n0\r\n\r\n", body[:5], len(body)-5, body[5:])
	models := "GET /v1/models HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
	for _, piece := range []int{1 << 20, 7, 1} {
		statuses, said := raw(t, address, sized+chunks+sized+models, piece)
		require.Equal(t, []int{200, 200, 200, 200}, statuses, said)
	}
}

// What the guard takes, net/http frames in the same way.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\naGET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var whole, cut framing
		whole.marks, cut.marks = true, true
		ok := whole.take(bytes.Clone(stream))
		pieces := iotest.OneByteReader(bytes.NewReader(stream))
		one := make([]byte, 1)
		for {
			if _, err := pieces.Read(one); err != nil || !cut.take(one) {
				break
			}
		}
		require.Equal(t, ok, !cut.bad, "cutting changed what is taken")
		require.Equal(t, whole.ended, cut.ended)
		// net/http reads the same bytes: each request that it takes ends where the guard says.
		r := bufio.NewReaderSize(bytes.NewReader(stream), len(stream)+16)
		for _, end := range whole.ended {
			request, err := http.ReadRequest(r)
			if err != nil {
				return // it minds more than framing
			}
			if _, err := io.Copy(io.Discard, request.Body); err != nil {
				return
			}
			request.Body.Close()
			rest, _ := io.ReadAll(io.TeeReader(r, io.Discard))
			require.EqualValues(t, end, len(stream)-len(rest), "%q", stream)
			r = bufio.NewReaderSize(strings.NewReader(string(rest)), len(stream)+16)
		}
	})
}
