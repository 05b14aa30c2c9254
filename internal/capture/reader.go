package capture

import (
	"errors"
	"io"
	"os"

	"github.com/refitml/refit/internal/lifecycle"
)

// window bounds what is read of a segment at once, in bytes. It holds the largest frame.
const window = maxPayload + frameHeader + 1<<20

// batch is what a loader takes at once: records, and what to forget when they are stored.
type batch struct {
	records []record
	number  int64 // of the segment; 0: past the disk
	offset  int64
	said    int  // texts among them
	moved   bool // the offset, also without a record: something was damaged
	entries []*entry
}

// next gives up to limit records that were not loaded yet, oldest first, from one segment; where nothing is on
// disk and the disk takes nothing, those that wait in memory. Without any it gives none.
func (s *Spool) next(limit int) (b batch, err error) {
	s.mu.Lock()
	s.dropLoaded()
	if len(s.segments) == 0 || s.read >= s.segments[0].size {
		defer s.mu.Unlock()
		return s.waiting(limit), nil
	}
	g := *s.segments[0]
	b = batch{number: g.number, offset: s.read}
	if s.ahead.take(&b, limit) {
		s.mu.Unlock()
		return b, nil
	}
	g.size = s.ahead.begins(g.number, g.size)
	s.mu.Unlock()
	content, err := readRange(s.path(g.number), b.offset, min(g.size-b.offset, window))
	if err != nil {
		return b, spoolError(err, "read a segment of the spool")
	}
	whole := b.offset+int64(len(content)) == g.size
	began := b.offset
	defer func() { b.moved = b.offset > began }()
	texts := s.openTexts(g)
	defer texts.close()
	for len(b.records) < limit {
		payload, end, skipped := nextFrame(content)
		if end == 0 {
			if lost := s.unreadable(content, whole, len(b.records)); lost > 0 {
				s.lose(lost)
				b.offset += int64(lost)
			}
			break
		}
		s.lose(skipped)
		content = content[end:]
		b.offset += int64(end)
		r, at, err := decodeRecord(payload)
		if err != nil {
			s.lose(end - skipped)
			continue
		}
		switch {
		case at.length > 0:
			b.said++
			texts.read(r, at)
		case r.Interaction != nil && at == givenUp:
			r.Interaction.Content = lifecycle.ContentDropped
		}
		b.records = append(b.records, r)
	}
	return b, nil
}

// unreadable says how much of the rest of a window holds no frame. What may be the beginning of a frame that ends
// behind the window is read again.
func (s *Spool) unreadable(rest []byte, whole bool, found int) int {
	switch {
	case whole:
		return len(rest)
	case found > 0:
		return 0
	default:
		return max(0, len(rest)-maxPayload-frameHeader)
	}
}

func (s *Spool) lose(bytes int) {
	if bytes > 0 {
		s.mu.Lock()
		s.losses.Damaged += int64(bytes)
		s.mu.Unlock()
		s.config.Log.Warn("capture skipped damaged bytes of its spool", "bytes", bytes)
	}
}

func readRange(path string, from, length int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content := make([]byte, length)
	if n, err := file.ReadAt(content, from); n < len(content) {
		return nil, err
	}
	return content, nil
}

// textFile reads the texts of a segment's records.
type textFile struct {
	spool *Spool
	file  *os.File // nil: there is none
	given bool     // texts were given up, so a missing one is no damage
}

func (s *Spool) openTexts(g segment) textFile {
	t := textFile{spool: s, given: g.given}
	f, err := os.Open(s.textPath(g.number))
	if errors.Is(err, os.ErrNotExist) {
		t.given = true
	}
	if err == nil {
		t.file = f
	}
	return t
}

func (t textFile) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// read gives a record its texts. Texts that were given up or are damaged leave the record without.
func (t textFile) read(r record, at place) {
	if r.Interaction == nil || at.length > maxPayload+frameHeader {
		t.spool.lose(int(at.length))
		return
	}
	frame := make([]byte, at.length)
	if t.file != nil {
		if _, err := t.file.ReadAt(frame, at.offset); err != nil && err != io.EOF {
			frame = nil
		}
	}
	payload, end, skipped := nextFrame(frame)
	id, input, output := "", "", ""
	if end == len(frame) && skipped == 0 && decodeText(payload, &id, &input, &output) == nil && id == r.Interaction.ID {
		r.Interaction.Input, r.Interaction.Output = input, output
		return
	}
	r.Interaction.Content = lifecycle.ContentDropped
	if !t.given {
		t.spool.lose(int(at.length))
	}
}

// waiting gives records that wait in memory while the disk takes nothing. The lock is held.
func (s *Spool) waiting(limit int) (b batch) {
	if s.failing == nil {
		return b
	}
	for _, e := range s.queue[s.writing:] {
		if len(b.records) == limit {
			break
		}
		if e.loaded || e.synced != nil {
			continue
		}
		i := *e.record.Interaction // its texts may be given up while it is loaded
		b.records = append(b.records, record{Interaction: &i})
		b.entries = append(b.entries, e)
	}
	return b
}

// loaded says that everything in the batch, and before it, is stored.
func (s *Spool) loaded(b batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range b.entries {
		e.loaded = true
	}
	if len(b.entries) > 0 {
		poke(s.wake)
		if isClosed(s.done) { // nobody else tidies up any more
			s.forgetLoaded()
		}
	}
	if len(s.segments) > 0 && s.segments[0].number == b.number {
		s.read = b.offset
		s.ahead.forget(b.number, b.offset)
		s.segments[0].said = max(0, s.segments[0].said-b.said)
	}
	s.dropLoaded()
}

// dropLoaded deletes segments that were loaded, except the one being written, which is begun anew only when it
// is full. The lock is held.
func (s *Spool) dropLoaded() {
	for len(s.segments) > 0 && s.segments[0] != s.active && s.read >= s.segments[0].size {
		g := s.segments[0]
		for _, path := range []string{s.path(g.number), s.textPath(g.number)} {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				s.config.Log.Warn("capture could not delete a loaded segment", "error", err)
			}
		}
		s.segments = s.segments[1:]
		s.read = 0
	}
	if a := s.active; a != nil && len(s.segments) == 1 && s.read >= a.size && a.size+a.text >= s.config.Segment/8 {
		a.spoiled = true // the next write begins a new one, so that what is loaded does not stay
	}
}
