package gateway

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
)

// canned is a model server that costs nothing: what is measured is the gateway's own work.
type canned struct{ body string }

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	if err := r.Body.Close(); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(c.body)),
		Body: io.NopCloser(strings.NewReader(c.body)), Request: r,
	}, nil
}

// discarded takes an answer.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d *discarded) WriteHeader(status int)      { d.status = status }

// BenchmarkAnswer is what an answer costs between net/http's server and its client: key, split, prompt assembly,
// capture of content to a spool, metrics. It leaves out loading.
func BenchmarkAnswer(b *testing.B) {
	const small = `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,` +
		`"message":{"role":"assistant","content":"Package bytes implements functions for the manipulation of byte slices."},` +
		`"finish_reason":"stop"}],"usage":{"prompt_tokens":42,"completion_tokens":25,"total_tokens":67}}`
	for _, prompt := range []int{100, 8 << 10, 64 << 10} {
		b.Run(fmt.Sprint(prompt), func(b *testing.B) {
			spool, err := capture.OpenSpool(capture.SpoolConfig{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler), Ahead: -1})
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, spool.Close()) })
			w := newWorld(b, func(c *Config) {
				c.Capture, c.Now, c.Refresh, c.ReportAll, c.DrawAll = spool, time.Now, 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
				c.Path = answer.New(answer.Settings{Client: &http.Client{Transport: canned{small}}})
			})
			secret, _ := w.key(nil)
			w.store.change(func(s *store) {
				s.service.Capture = lifecycle.CapturePolicy{Content: "full"}
				s.service = s.service.WithDefaults()
			})
			w.rollout(500)
			w.await(func() bool { return w.gateway.lane("docs").texts() != nil })
			handler := w.gateway.Handler()
			const sentence = "Package bytes implements functions for the manipulation of byte slices; say \\\"how\\\".\\n"
			text := strings.Repeat(sentence, prompt/len(sentence)+1)
			var bodies [][]byte
			for i := range 256 {
				bodies = append(bodies, fmt.Appendf(nil, `{"model":"docs","messages":[{"role":"user","content":"question %d: %s"}],"stream":false,"temperature":0.7}`, i, text))
			}
			header := http.Header{"Authorization": {"Bearer " + secret}, "Content-Type": {"application/json"}}
			var asked atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					body := bodies[int(asked.Add(1))%len(bodies)]
					r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, chatPath, bytes.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					r.Header, r.RemoteAddr = header, "127.0.0.1:1"
					out := &discarded{header: http.Header{}}
					handler.ServeHTTP(out, r)
					if out.status != http.StatusOK {
						b.Errorf("status %d", out.status)
						return
					}
				}
			})
		})
	}
}
