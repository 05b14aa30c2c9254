package answer

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// Buffer is memory for a request's body, which is used again for others.
type Buffer struct{ bytes []byte }

// largest is the most that a buffer keeps for others, in bytes.
const largest = 256 << 10

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// ErrTooLong says that a body was longer than it may be.
var ErrTooLong = errors.New("the body is too long")

// ReadBody reads a body of at most limit bytes; length is how long it is said to be, below 0 where nothing is said. Other
// errors are the reader's.
func ReadBody(r io.Reader, length, limit int64) (*Buffer, error) {
	b := buffers.Get().(*Buffer)
	var err error
	b.bytes, err = readAll(b.bytes[:0], r, length, limit)
	if err != nil {
		b.Free()
		return nil, err
	}
	return b, nil
}

// Bytes are what was read. They are the buffer's until it is freed.
func (b *Buffer) Bytes() []byte { return b.bytes }

// Free gives the memory back.
func (b *Buffer) Free() {
	if cap(b.bytes) <= largest {
		buffers.Put(b)
	}
}

// minRead is the room that a read gets at least.
const minRead = 512

// readAll reads into the memory of buf, or into more.
func readAll(buf []byte, r io.Reader, length, limit int64) ([]byte, error) {
	if size := int(min(max(length, 0), believed)) + minRead; cap(buf) < size {
		buf = make([]byte, 0, size)
	}
	for {
		if cap(buf)-len(buf) < minRead {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, ErrTooLong
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}

// shared is memory that several may read, and that goes back when the last of them is done.
type shared struct {
	buffer *Buffer // nil: it is somebody else's
	users  atomic.Int32
}

// Share says that one more will use the request, and calls Free.
func (a *Asked) Share() { a.memory.users.Add(1) }

// Free says that one user is done with a request that ReadBuffer gave, and with everything that came of it but copies.
func (a *Asked) Free() {
	if a.memory.users.Add(-1) == 0 && a.memory.buffer != nil {
		a.memory.buffer.Free()
	}
}

// pieces is a body that is sent in the pieces of which it is made.
type pieces struct {
	list   [][]byte // that are left
	asked  *Asked   // whose memory they are in
	closed atomic.Bool
}

// whole is up to how many bytes a body is written anew, so that it goes out together with its head: as much as fits into
// net/http's buffer beside that.
const whole = 3 << 10

// Read is io.Reader's.
func (p *pieces) Read(b []byte) (n int, err error) {
	for len(p.list) > 0 && n < len(b) {
		m := copy(b[n:], p.list[0])
		n += m
		if p.list[0] = p.list[0][m:]; len(p.list[0]) == 0 {
			p.list = p.list[1:]
		}
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// left is how many bytes were not read yet.
func (p *pieces) left() (sum int64) {
	for _, piece := range p.list {
		sum += int64(len(piece))
	}
	return sum
}

// Close is io.Closer's: nobody reads any more.
func (p *pieces) Close() error {
	if !p.closed.Swap(true) {
		p.asked.Free()
	}
	return nil
}

// body is what is sent to a model server: a document with edits.
type body struct {
	asked *Asked // of whose memory it is; nil: it is its own
	doc   []byte
	edits []edit
}

func (b body) size() int {
	size := len(b.doc)
	for _, e := range b.edits {
		size += len(e.with) - (e.at.to - e.at.from)
	}
	return size
}

// pieces gives the body as it can be sent once.
func (b body) pieces() *pieces {
	b.asked.Share()
	p := &pieces{asked: b.asked, list: make([][]byte, 0, 2*len(b.edits)+1)}
	at := 0
	for _, e := range b.edits {
		p.list = append(p.list, b.doc[at:e.at.from], e.with)
		at = e.at.to
	}
	p.list = append(p.list, b.doc[at:])
	return p
}
