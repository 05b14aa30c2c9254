package answer

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABodyIsReadWithinItsLimit(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, minRead - 1, minRead, 5000, largest, largest + 1} {
		text := strings.Repeat("x", size)
		for _, length := range []int64{-1, 0, int64(size), 1 << 40} { // also where the length is a lie
			b, err := ReadBody(iotest.HalfReader(strings.NewReader(text)), length, int64(size))
			require.NoError(t, err)
			require.Equal(t, text, string(b.Bytes()))
			b.Free()
			_, err = ReadBody(strings.NewReader(text+"y"), length, int64(size))
			require.ErrorIs(t, err, ErrTooLong)
		}
	}
	broken := errors.New("broken")
	_, err := ReadBody(iotest.ErrReader(broken), 10, 10)
	require.ErrorIs(t, err, broken)
}

// What is still being sent is nobody else's, whoever is done with the request.
func TestMemoryGoesBackWithItsLastUser(t *testing.T) {
	t.Parallel()
	text := fmt.Sprintf(`{"model":"docs","prompt":%q}`, strings.Repeat("question ", 2*whole))
	b, err := ReadBody(strings.NewReader(text), int64(len(text)), 1<<20)
	require.NoError(t, err)
	a, err := ReadBuffer(Completions, b)
	require.NoError(t, err)
	users := func() int32 { return a.memory.users.Load() }
	var request http.Request
	bodyOf(a, nil).put(&request)
	again, err := request.GetBody() // as for a connection that turned out to be closed
	require.NoError(t, err)
	a.Free()
	require.EqualValues(t, 2, users())
	for _, sent := range []io.ReadCloser{request.Body, again} {
		raw, err := io.ReadAll(sent)
		require.NoError(t, err)
		require.Equal(t, text, string(raw))
		require.NoError(t, sent.Close())
		require.NoError(t, sent.Close(), "a second time means nothing")
	}
	require.Zero(t, users())
}

// net/http closes what it sends however a call ends, so all memory comes back.
func TestEveryCallGivesItsMemoryBack(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]http.HandlerFunc{
		"answered":   saying(`{"choices":[{"index":0,"text":"hi"}]}`),
		"refused":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"broken off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"not even read": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			saying(`{}`)(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := httptest.NewServer(serve)
			t.Cleanup(m.Close)
			a, err := Read(Completions, fmt.Appendf(nil, `{"prompt":%q}`, strings.Repeat("question ", 20_000)))
			require.NoError(t, err)
			_, _ = New(Settings{}).Do(t.Context(), ready(t, nil, nil), Upstream{URL: m.URL}, Request{Asked: a}, &client{})
			require.Eventually(t, func() bool { return a.memory.users.Load() == 1 }, 10*time.Second, time.Millisecond, "only who read it is left")
		})
	}
}
