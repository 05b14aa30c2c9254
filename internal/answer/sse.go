package answer

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/refitml/refit/internal/lifecycle"
)

// event is one block of a stream of server-sent events, up to and with its empty line. Its bytes are the
// reader's and hold until the next one is read.
type event struct {
	raw  []byte // as it came
	data []byte // fields data joined by line feeds
	any  bool   // there was a field data; without one the block is a comment or a setting
}

// events reads server-sent events (WHATWG HTML, "Server-sent events") however the stream is cut into
// reads. Lines may end in LF, CR or CRLF.
type events struct {
	r        *bufio.Reader
	max      int  // bytes of one event
	afterCR  bool // a line feed that comes next belongs to the line before
	crlf     bool // the last line feed followed a carriage return
	begun    bool // the byte order mark that may stand first is behind
	now      event
	leftOver event
}

func newEvents(r io.Reader, max int) *events {
	return &events{r: bufio.NewReaderSize(r, 2<<10), max: max}
}

// next gives the next event. At the end it gives io.EOF, or io.ErrUnexpectedEOF where the stream ended
// inside an event; leftOver then holds what was read of it.
func (s *events) next() (event, error) {
	s.now = event{raw: s.now.raw[:0], data: s.now.data[:0]}
	for {
		line, err := s.line()
		if err != nil {
			if errors.Is(err, io.EOF) && len(s.now.raw) > 0 {
				if len(line) > 0 { // an unfinished last line still counts as read
					s.now.field(line)
				}
				s.leftOver = s.now
				if len(bytes.TrimLeft(s.now.raw, "\r\n")) > 0 {
					return event{}, io.ErrUnexpectedEOF
				}
			}
			return event{}, err
		}
		if len(line) == 0 {
			return s.now, nil
		}
		s.now.field(line)
	}
}

// ready says whether the next event can be read without waiting for more.
func (s *events) ready() bool {
	there, _ := s.r.Peek(s.r.Buffered()) // never fails: the bytes are there
	return bytes.Contains(there, []byte("\n\n")) || bytes.Contains(there, []byte("\r\n\r\n")) || bytes.Contains(there, []byte("\r\r"))
}

// field takes one line of an event. Unknown fields and comments stand in raw only.
func (e *event) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	if string(name) != "data" {
		return
	}
	if e.any {
		e.data = append(e.data, '\n')
	}
	e.data, e.any = append(e.data, bytes.TrimPrefix(value, []byte(" "))...), true
}

// line reads one line and adds it to the event's bytes; what it gives is without its end. With an error it gives
// what there was of a line.
func (s *events) line() ([]byte, error) {
	from := len(s.now.raw)
	for {
		if _, err := s.r.Peek(1); err != nil {
			return s.now.raw[from:], err
		}
		ready, _ := s.r.Peek(s.r.Buffered()) // never fails: the bytes are there
		if s.afterCR {
			s.afterCR = false
			if ready[0] == '\n' {
				if err := s.take(ready[:1]); err != nil {
					return nil, err
				}
				from++
				s.crlf = true
				continue
			}
		}
		end := lineEnd(ready)
		if end < 0 {
			if err := s.take(ready); err != nil {
				return nil, err
			}
			continue
		}
		size := s.ending(end)
		ready, _ = s.r.Peek(end + size) // they may have moved within the buffer
		if err := s.take(ready); err != nil {
			return nil, err
		}
		line := s.now.raw[from : len(s.now.raw)-size]
		if !s.begun {
			s.begun = true
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		return line, nil
	}
}

// ending gives the size of the end of line at a place of the buffer. A line feed that is there already is taken with its
// carriage return, because some clients see no end of an event without it; so is one that must be on its way, because
// lines of this stream ended so before. Where neither is so, nobody waits for it.
func (s *events) ending(at int) (size int) {
	there, _ := s.r.Peek(at + 1) // never fails: it was found there
	if there[at] == '\n' {
		s.crlf = false
		return 1
	}
	if s.crlf || at+1 < s.r.Buffered() {
		there, _ = s.r.Peek(at + 2)
	}
	s.crlf = len(there) > at+1 && there[at+1] == '\n'
	s.afterCR = !s.crlf
	if s.crlf {
		return 2
	}
	return 1
}

// take moves bytes from the reader to the event.
func (s *events) take(b []byte) error {
	if len(s.now.raw)+len(b) > s.max {
		return lifecycle.Errorf(lifecycle.Unavailable, "an event of the stream is larger than %d bytes", s.max)
	}
	s.now.raw = append(s.now.raw, b...)
	_, err := s.r.Discard(len(b))
	return err
}

// lineEnd gives the place of the first CR or LF, or -1.
func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// with gives the event's bytes with other data. Its other lines, comments too, stay where they are.
func (e event) with(data []byte) []byte {
	out := make([]byte, 0, len(e.raw)+len(data)+16)
	raw, put := bytes.TrimPrefix(e.raw, []byte("\xef\xbb\xbf")), false
	for len(raw) > 0 {
		end := lineEnd(raw) + 1
		if raw[end-1] == '\r' && end < len(raw) && raw[end] == '\n' {
			end++
		}
		line := raw[:end]
		raw = raw[end:]
		if name, _, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":")); string(name) != "data" {
			out = append(out, line...)
			continue
		}
		if !put {
			put = true
			for each := range bytes.SplitSeq(data, []byte("\n")) {
				out = append(append(append(out, "data: "...), each...), '\n')
			}
		}
	}
	return out
}
