package gateway

import (
	"log/slog"
	"net/http"
	"time"
)

// maxHead bounds the head of a request, in bytes. What is longer is answered 431.
const maxHead = 32 << 10

// headTime is how long a client may take to send the head of a request, TLS handshake included.
const headTime = 10 * time.Second

// server bounds what a client can hold by being slow: a head, a body, an idle connection, and an answer that it
// does not take. An answer as a whole may last as long as it likes; see patience.
func (g *Gateway) server() *http.Server {
	return &http.Server{
		Handler: g.Handler(), ErrorLog: slog.NewLogLogger(g.config.Log.Handler(), slog.LevelWarn), MaxHeaderBytes: maxHead,
		ConnContext: withGuard, ReadHeaderTimeout: min(headTime, g.config.Patience), IdleTimeout: 2 * time.Minute,
		WriteTimeout: bodyTime + g.config.Patience, // of answers that are ready at once; it also ends what patience left
		HTTP2:        &http.HTTP2Config{MaxConcurrentStreams: 256, WriteByteTimeout: g.config.Patience, SendPingTimeout: time.Minute},
	}
}

// patience ends an answer of which the client took nothing for a time. The deadline of a connection is moved now
// and then, not with every piece.
type patience struct {
	w     http.ResponseWriter
	limit time.Duration
	until time.Time
}

// wait lets the answer begin whenever it likes. On HTTP/1 a deadline that passes while nothing is written means nothing.
func (p *patience) wait(r *http.Request) {
	if r.ProtoMajor == 1 {
		return
	}
	_ = http.NewResponseController(p.w).SetWriteDeadline(time.Time{}) // some writers have none
}

// send writes a piece of the answer.
func (p *patience) send(piece []byte) (int, error) {
	p.extend()
	return p.w.Write(piece)
}

// extend is called before a piece of the answer is written.
func (p *patience) extend() {
	now := time.Now()
	if p.limit == 0 || p.until.Sub(now) > p.limit*3/4 {
		return
	}
	p.until = now.Add(p.limit)
	_ = http.NewResponseController(p.w).SetWriteDeadline(p.until)
}
