package answer

import (
	"bufio"
	"bytes"
	"io"

	"github.com/refitml/refit/internal/lifecycle"
)

// event is one block of a stream of server-sent events, up to and with its empty line.
type event struct {
	raw  []byte // as it came
	name string // of the field event; mostly ""
	data []byte // fields data joined by line feeds
	any  bool   // there was a field data; without one the block is a comment or a setting
}

// events reads server-sent events (WHATWG HTML, "Server-sent events") however the stream is cut into
// reads. Lines may end in LF, CR or CRLF.
type events struct {
	r        *bufio.Reader
	max      int  // bytes of one event
	afterCR  bool // a line feed that comes next belongs to the line before
	begun    bool // the byte order mark that may stand first is behind
	leftOver event
}

func newEvents(r io.Reader, max int) *events {
	return &events{r: bufio.NewReaderSize(r, 16<<10), max: max}
}

// next gives the next event. At the end it gives io.EOF, or io.ErrUnexpectedEOF where the stream ended
// inside an event; leftOver then holds what was read of it.
func (s *events) next() (event, error) {
	var e event
	for {
		line, err := s.line(&e)
		if err != nil {
			if err == io.EOF && len(e.raw) > 0 {
				s.leftOver = e
				if len(bytes.TrimLeft(e.raw, "\r\n")) > 0 {
					return event{}, io.ErrUnexpectedEOF
				}
			}
			return event{}, err
		}
		if len(line) == 0 {
			return e, nil
		}
		e.field(line)
	}
}

// field takes one line of an event. Unknown fields and comments stand in raw only.
func (e *event) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if e.any {
			e.data = append(e.data, '\n')
		}
		e.data, e.any = append(e.data, value...), true
	case "event":
		e.name = string(value)
	}
}

// line reads one line without its end, and adds it with its end to e.raw.
func (s *events) line(e *event) ([]byte, error) {
	from := len(e.raw)
	for {
		c, err := s.r.ReadByte()
		if err != nil {
			if err == io.EOF && len(e.raw) > from { // an unfinished last line still counts as read
				line := e.raw[from:]
				if bytes.Equal(line, []byte("\n")) && s.afterCR {
					return nil, io.EOF
				}
				e.field(bytes.Clone(line))
			}
			return nil, err
		}
		if len(e.raw) >= s.max {
			return nil, lifecycle.Errorf(lifecycle.Unavailable, "an event of the stream is larger than %d bytes", s.max)
		}
		e.raw = append(e.raw, c)
		switch {
		case c == '\n' && s.afterCR && len(e.raw) == from+1:
			s.afterCR = false
			from++
		case c == '\n', c == '\r':
			s.afterCR = c == '\r'
			line := e.raw[from : len(e.raw)-1]
			if !s.begun {
				s.begun = true
				line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
			}
			return line, nil
		default:
			s.afterCR = false
		}
	}
}

// with gives the event's bytes with other data.
func (e event) with(data []byte) []byte {
	var out []byte
	if e.name != "" {
		out = append(append(append(out, "event: "...), e.name...), '\n')
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		out = append(append(append(out, "data: "...), line...), '\n')
	}
	return append(out, '\n')
}
