package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// segment is a pair of files: records, and the texts that they name.
type segment struct {
	number int64
	size   int64 // bytes of whole records
	text   int64 // bytes of texts
	said   int   // texts that are not loaded yet

	records, texts *handle // open while the segment is written
	spoiled        bool    // nothing more may be written: the end of a file is not known, or its texts were given up
	given          bool    // texts were given up for want of room
}

// file is what a spool asks of the file system.
type file interface {
	Write([]byte) (int, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

// handle is an open file. It is closed by who syncs it last.
type handle struct {
	file    file
	dirty   bool  // stands in unsynced
	syncing bool  // a sync of it is under way, or about to begin
	retired bool  // nothing is written to it any more
	failed  error // a sync of it failed: what a power cut would leave of it is not known, whatever a later sync says
}

func createFile(path string) (file, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
}

// retire says that nothing more is written to the segment. The lock is held.
func (g *segment) retire() {
	for _, h := range []*handle{g.records, g.texts} {
		if h == nil {
			continue
		}
		h.retired = true
		if !h.dirty && !h.syncing {
			_ = h.file.Close() // all of it is synced
		}
	}
	g.records, g.texts = nil, nil
}

func (s *Spool) path(number int64) string {
	return filepath.Join(s.config.Dir, fmt.Sprintf("%016d.spool", number))
}

func (s *Spool) textPath(number int64) string {
	return filepath.Join(s.config.Dir, fmt.Sprintf("%016d.text", number))
}

// recover finds the segments of a former process and cuts off what was written in part.
func (s *Spool) recover() error {
	entries, err := os.ReadDir(s.config.Dir)
	if err != nil {
		return spoolError(err, "read the spool's folder")
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".spool")
		number, err := strconv.ParseInt(name, 10, 64)
		if !ok || err != nil {
			continue
		}
		g, err := s.recoverSegment(number)
		if err != nil {
			return err
		}
		s.segments = append(s.segments, g)
	}
	slices.SortFunc(s.segments, func(a, b *segment) int { return int(a.number - b.number) })
	for _, e := range entries { // texts whose records are gone
		name, ok := strings.CutSuffix(e.Name(), ".text")
		number, err := strconv.ParseInt(name, 10, 64)
		if ok && err == nil && !slices.ContainsFunc(s.segments, func(g *segment) bool { return g.number == number }) {
			_ = os.Remove(s.textPath(number)) // it is tried again at the next start
		}
	}
	return nil
}

func (s *Spool) recoverSegment(number int64) (*segment, error) {
	content, err := os.ReadFile(s.path(number))
	if err != nil {
		return nil, spoolError(err, "read a segment of the spool")
	}
	g := &segment{number: number}
	for rest := content; ; {
		payload, end, _ := nextFrame(rest)
		if end == 0 {
			break
		}
		if _, at, err := decodeRecord(payload); err == nil && at.length > 0 {
			g.said++
		}
		rest = rest[end:]
		g.size += int64(end)
	}
	if torn := int64(len(content)) - g.size; torn > 0 {
		s.losses.Damaged += torn
		s.config.Log.Warn("capture cut a torn tail off", "segment", number, "bytes", torn)
		if err := os.Truncate(s.path(number), g.size); err != nil { // nothing reads beyond it either way
			s.config.Log.Warn("capture could not cut a torn tail off", "segment", number, "error", err)
		}
	}
	if info, err := os.Stat(s.textPath(number)); err == nil {
		g.text = info.Size()
	}
	return g, nil
}

// begin starts a new segment.
func (s *Spool) begin() error {
	next := int64(1)
	s.mu.Lock()
	if n := len(s.segments); n > 0 {
		next = s.segments[n-1].number + 1
	}
	s.mu.Unlock()
	f, err := s.create(s.path(next))
	if err != nil {
		return spoolError(err, "begin a segment of the spool")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != nil {
		s.active.retire()
	}
	s.active = &segment{number: next, records: &handle{file: f}}
	s.segments = append(s.segments, s.active)
	s.newFiles = true
	return nil
}

// prepare sees that there is a segment to write to, and makes room for entries within the bound.
func (s *Spool) prepare(head []*entry) error {
	var need int64
	for _, e := range head {
		need += e.size()
	}
	for {
		s.mu.Lock()
		a := s.active
		full := a == nil || a.spoiled || a.size+a.text >= s.config.Segment
		over := s.used()+need > s.config.Disk
		s.mu.Unlock()
		var err error
		switch {
		case full:
			err = s.begin()
		case over:
			err = errBound
		default:
			return nil
		}
		if err != nil && !(isFull(err) && s.giveUpOldest(nil)) {
			return err
		}
	}
}

// used gives the bytes of all files. The lock is held.
func (s *Spool) used() (bytes int64) {
	for _, g := range s.segments {
		bytes += g.size + g.text
	}
	return bytes
}

// giveUpOldest drops the oldest texts on disk and says whether there were any. What is being written at this
// moment, to the file of except, is not among them.
func (s *Spool) giveUpOldest(except *handle) bool {
	s.mu.Lock()
	at := slices.IndexFunc(s.segments, func(g *segment) bool { return g.text > 0 && (except == nil || g.texts != except) })
	if at < 0 {
		s.mu.Unlock()
		return false
	}
	g := s.segments[at]
	lost := g.said
	s.losses.Payloads += int64(lost)
	g.text, g.said, g.spoiled, g.given = 0, 0, true, true
	s.ahead.leave(g.number) // they have the texts that were given up
	s.mu.Unlock()
	s.config.Log.Error("capture gave up its oldest payloads for want of room", "segment", g.number, "payloads", lost)
	err := os.Truncate(s.textPath(g.number), 0) // who has it open holds no room any more
	if err == nil {
		err = os.Remove(s.textPath(g.number))
	}
	if err != nil {
		s.config.Log.Error("capture could not remove payloads", "segment", g.number, "error", err)
	}
	return true
}
