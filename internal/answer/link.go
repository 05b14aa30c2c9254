package answer

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A model server closes connections that nobody used for a while, and a request may be sent in that very moment.
// It then ends without an answer, as it does when the server dies over it; the first must be sent again and the
// second must not, because it may have been answered and counted. The kernels know which it was. What the server's
// machine took in is acknowledged, and what came after the server had closed is not. What was taken in and never
// read by the server makes its kernel reset the connection at once, where one that was read ends quietly.

// link is a connection to a model server that knows whether a request that got no answer was taken in.
type link struct {
	*net.TCPConn
	sent  atomic.Int64 // bytes given to the kernel
	heard atomic.Int64 // sent, when the server said something last; 0 before
	at    atomic.Int64 // when something was sent last, in nanoseconds
	torn  atomic.Bool  // something could not be sent whole
	over  atomic.Bool  // it ended while nothing was under way: nothing more is sent
}

// resetTime is how soon after a request a reset says that the server closed without reading it. Later it may be
// somebody's between here and there, who lost patience with an answer that is being made.
const resetTime = time.Second

// unheard is the failure of a request on a connection that was used before, which the server cannot have read whole.
type unheard struct{ error }

func (u unheard) Unwrap() error { return u.error }

// dialer makes links.
func dialer(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			return &link{TCPConn: tcp}, nil
		}
		return conn, nil
	}
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.TCPConn.Read(p)
	if n > 0 {
		l.heard.Store(l.sent.Load())
	}
	if err != nil && l.notRead(err) {
		err = unheard{err}
	}
	return n, err
}

func (l *link) Write(p []byte) (int, error) {
	n, err := l.write(int64(len(p)), func() (int64, error) {
		n, err := l.TCPConn.Write(p)
		return int64(n), err
	})
	return int(n), err
}

// write counts what is sent.
func (l *link) write(size int64, send func() (int64, error)) (int64, error) {
	l.sent.Add(size) // before it is so: the failure may be read before this returns
	l.at.Store(time.Now().UnixNano())
	if l.over.Load() {
		l.sent.Add(-size)
		return 0, unheard{syscall.EPIPE}
	}
	n, err := send()
	if err != nil {
		l.torn.Store(true) // before the count goes back: who reads the connection's end sees one or the other
	}
	l.sent.Add(n - size)
	if err != nil && l.heard.Load() > 0 {
		err = unheard{err} // what is not sent whole is not read whole
	}
	return n, err
}

// ReadFrom sends a request's pieces from where they stand, at once. It hides the connection's own, which would send without
// counting.
func (l *link) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		return io.Copy(struct{ io.Writer }{l}, r)
	}
	p, ok := limited.R.(*pieces)
	if !ok || p.left() != limited.N {
		return io.Copy(struct{ io.Writer }{l}, r)
	}
	n, err := l.write(limited.N, func() (int64, error) { return (*net.Buffers)(&p.list).WriteTo(l.TCPConn) })
	limited.N -= n
	return n, err
}

// notRead says whether a connection that ended did so without the server having read what was sent last.
func (l *link) notRead(err error) bool {
	heard, sent := l.heard.Load(), l.sent.Load()
	if heard > 0 && l.torn.Load() {
		return true
	}
	if sent <= heard {
		l.over.Store(true) // who sends now sees that, or is seen here
		sent = l.sent.Load()
	}
	if heard == 0 || sent <= heard {
		return false
	}
	if errors.Is(err, syscall.ECONNRESET) && time.Since(time.Unix(0, l.at.Load())) < resetTime {
		return true
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return false
	}
	taken, known := acknowledged(l.TCPConn)
	return known && taken >= heard && taken < sent
}

// again says whether a request that failed can be sent again, because nobody can have read it. net/http has no name
// for the error of a connection that it found closed before it sent anything; its text is part of its tests.
func again(err error) bool {
	var lost unheard
	return errors.As(err, &lost) || strings.HasSuffix(err.Error(), "http: server closed idle connection")
}

// maxStale is how many connections that turn out to be closed one request may meet. A server that was idle for a
// while has closed all of them, and each try takes one away.
const maxStale = 32
