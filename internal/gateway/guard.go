package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Where one request ends and the next begins must be one thing to everybody between a client and the gateway: where
// a proxy in front sees another end, one client's bytes become another's request. net/http takes some shapes that
// others read differently, and what it took cannot be told afterwards. So a guard follows the framing of plain
// connections and takes only what has one meaning (RFC 9112, sections 2.2, 5.2, 6 and 7.1). Over TLS nothing stands
// between; there, and for HTTP/2, net/http's own checks hold.

// errFraming makes net/http answer 400 and close the connection.
var errFraming = errors.New("the request can be read in two ways")

// guardedListener gives guarded connections.
type guardedListener struct{ net.Listener }

func (l guardedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if _, secure := conn.(*tls.Conn); secure || err != nil {
		return conn, err
	}
	return &guard{Conn: conn}, nil
}

// guard is a connection whose requests can be read in one way only. What cannot is never passed on.
type guard struct {
	net.Conn
	framing framing
}

func (g *guard) Read(p []byte) (int, error) {
	if g.framing.bad {
		return 0, errFraming
	}
	n, err := g.Conn.Read(p)
	if n > 0 && !g.framing.take(p[:n]) {
		return 0, errFraming
	}
	return n, err
}

// guardKey finds a request's guard in its context.
type guardKey struct{}

// withGuard is for http.Server's ConnContext.
func withGuard(ctx context.Context, conn net.Conn) context.Context {
	if g, ok := conn.(*guard); ok {
		return context.WithValue(ctx, guardKey{}, g)
	}
	return ctx
}

// arrived says whether all of a request, whose body nobody has begun to read, has come from the client: then reading
// it waits for nobody. False means that nothing is known.
func arrived(r *http.Request) bool {
	if r.ContentLength == 0 {
		return false // nothing to read, and net/http may be reading the connection meanwhile
	}
	g, ok := r.Context().Value(guardKey{}).(*guard)
	return ok && g.framing.between()
}

// CloseWrite lets net/http end a connection in order.
func (g *guard) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// part is what framing waits for.
type part int

const (
	requestLine part = iota
	headerLine
	body      // so many bytes
	chunkLine // size of a chunk
	chunk     // so many bytes
	chunkEnd  // the empty rest of a line
	lastLine  // of a chunked body; trailers are not taken
)

// maxFramingLine bounds a line that came in several pieces; net/http refuses longer heads, too.
const maxFramingLine = maxHead + 4096

// framing follows the requests on one connection. The zero value waits for the first.
type framing struct {
	part    part
	line    []byte // begun, where it came in pieces
	left    int64  // bytes of the body or chunk
	length  int64  // Content-Length
	sized   bool   // there was one
	chunked bool
	old     bool  // HTTP/1.0
	bad     bool  // nothing is taken any more
	seen    int64 // bytes so far
	ended   []int64
	marks   bool // ended is kept: where requests ended, for tests
}

// between says whether everything so far were whole requests.
func (f *framing) between() bool {
	return f.part == requestLine && len(f.line) == 0 && f.seen > 0 && !f.bad
}

// take follows bytes and says whether they have one meaning so far.
func (f *framing) take(b []byte) bool {
	for len(b) > 0 && !f.bad {
		if f.part == body || f.part == chunk {
			n := min(f.left, int64(len(b)))
			f.left, f.seen, b = f.left-n, f.seen+n, b[n:]
			if f.left == 0 {
				f.bodyPassed()
			}
			continue
		}
		end := bytes.IndexByte(b, '\n') + 1
		if end == 0 {
			end = len(b)
		}
		line := b[:end]
		f.seen, b = f.seen+int64(end), b[end:]
		if len(f.line) > 0 || line[end-1] != '\n' {
			f.line = append(f.line, line...)
			line = f.line
		}
		if line[len(line)-1] != '\n' {
			f.bad = len(line) > maxFramingLine
			continue
		}
		f.bad = !f.takeLine(line)
		f.line = f.line[:0]
	}
	return !f.bad
}

func (f *framing) bodyPassed() {
	if f.part == chunk {
		f.part = chunkEnd
		return
	}
	f.end()
}

// end is the end of a request.
func (f *framing) end() {
	if f.marks {
		f.ended = append(f.ended, f.seen)
	}
	f.part, f.length, f.sized, f.chunked, f.old = requestLine, 0, false, false, false
}

// takeLine takes a line with its end, which must be CRLF.
func (f *framing) takeLine(line []byte) bool {
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return false
	}
	switch f.part {
	case requestLine:
		f.old = bytes.HasSuffix(line, []byte(" HTTP/1.0"))
		f.part = headerLine
		return len(line) > 0
	case headerLine:
		if len(line) == 0 {
			return f.headPassed()
		}
		return f.header(line)
	case chunkLine:
		return f.chunkSize(line)
	case chunkEnd:
		f.part = chunkLine
	case lastLine:
		if len(line) == 0 {
			f.end()
		}
	}
	return len(line) == 0
}

// header takes one field. One that goes on from the line before has no meaning that all agree on.
func (f *framing) header(line []byte) bool {
	raw, rest, ok := bytes.Cut(line, []byte(":"))
	if !ok || bytes.IndexByte(raw, ' ') >= 0 || bytes.IndexByte(raw, '\t') >= 0 {
		return false
	}
	if len(raw) != len("Content-Length") && len(raw) != len("Transfer-Encoding") {
		return true
	}
	name, value := string(raw), strings.Trim(string(rest), " \t")
	switch {
	case strings.EqualFold(name, "Content-Length"):
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || f.sized || strings.Trim(value, "0123456789") != "" {
			return false
		}
		f.length, f.sized = n, true
	case strings.EqualFold(name, "Transfer-Encoding"):
		if f.chunked || !strings.EqualFold(value, "chunked") {
			return false
		}
		f.chunked = true
	}
	return true
}

func (f *framing) headPassed() bool {
	switch {
	case f.chunked:
		f.part = chunkLine
		return !f.sized && !f.old
	case f.length > 0:
		f.part, f.left = body, f.length
	default:
		f.end()
	}
	return true
}

func (f *framing) chunkSize(line []byte) bool {
	n, err := strconv.ParseUint(string(line), 16, 40) // extensions are not taken
	if err != nil {
		return false
	}
	if f.part, f.left = chunk, int64(n); n == 0 {
		f.part = lastLine
	}
	return true
}
