package capture

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

func (s *Spool) path(number int64) string {
	return filepath.Join(s.config.Dir, fmt.Sprintf("%016d.spool", number))
}

// recover finds the segments of a former process, cuts what was written in part, and begins a new one.
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
		content, err := os.ReadFile(s.path(number))
		if err != nil {
			return spoolError(err, "read a segment of the spool")
		}
		whole := wholeFrames(content)
		if whole < len(content) {
			s.damaged.Add(int64(len(content) - whole))
			s.config.Log.Warn("capture cut a torn tail off", "segment", e.Name(), "bytes", len(content)-whole)
			if err := os.Truncate(s.path(number), int64(whole)); err != nil {
				return spoolError(err, "cut a torn tail off the spool")
			}
		}
		s.segments = append(s.segments, segment{number, int64(whole)})
	}
	slices.SortFunc(s.segments, func(a, b segment) int { return int(a.number - b.number) })
	return s.begin()
}

// begin opens a new segment. The folder is synced, so that the file is there after a power cut.
func (s *Spool) begin() error {
	next := int64(1)
	if n := len(s.segments); n > 0 {
		next = s.segments[n-1].number + 1
	}
	file, err := os.OpenFile(s.path(next), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return spoolError(err, "begin a segment of the spool")
	}
	if dir, err := os.Open(s.config.Dir); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file = file
	s.segments = append(s.segments, segment{number: next})
	return nil
}

// appendSynced writes frames and syncs them. After a failure the segment is given up, because nobody knows
// what of it is on disk: a later write begins a new one.
func (s *Spool) appendSynced(frames []byte) error {
	if len(frames) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var used int64
	for _, g := range s.segments {
		used += g.size
	}
	if used+int64(len(frames)) > s.config.Disk {
		return lifecycle.Errorf(lifecycle.Unavailable, "the spool holds %d bytes, its bound is %d", used, s.config.Disk)
	}
	active := &s.segments[len(s.segments)-1]
	if active.size >= s.config.Segment {
		if err := s.begin(); err != nil {
			return err
		}
		active = &s.segments[len(s.segments)-1]
	}
	_, err := s.file.Write(frames)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		if failed := s.begin(); failed != nil {
			s.config.Log.Error("capture cannot begin a segment", "error", failed)
		}
		return err
	}
	active.size += int64(len(frames))
	return nil
}

// position is a place in the spool up to which records were read.
type position struct {
	number int64
	offset int64
}

// next reads up to limit records that were not loaded yet, from one segment. Without any it gives none.
func (s *Spool) next(limit int) ([]record, position, error) {
	s.mu.Lock()
	s.dropLoaded()
	oldest, offset := s.segments[0], s.read
	s.mu.Unlock()
	at := position{oldest.number, offset}
	if oldest.size == offset {
		return nil, at, nil
	}
	content, err := readRange(s.path(oldest.number), offset, oldest.size)
	if err != nil {
		return nil, at, spoolError(err, "read a segment of the spool")
	}
	var records []record
	for len(records) < limit {
		payload, end, skipped := nextFrame(content)
		if end == 0 {
			s.lose(len(content))
			at.offset = oldest.size
			break
		}
		s.lose(skipped)
		content = content[end:]
		at.offset += int64(end)
		var r record
		if json.Unmarshal(payload, &r) != nil || (r.Interaction == nil) == (r.Feedback == nil) {
			s.lose(end - skipped)
			continue
		}
		records = append(records, r)
	}
	return records, at, nil
}

func (s *Spool) lose(bytes int) {
	if bytes > 0 {
		s.damaged.Add(int64(bytes))
		s.config.Log.Warn("capture skipped damaged bytes of its spool", "bytes", bytes)
	}
}

func readRange(path string, from, to int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content := make([]byte, to-from)
	n, err := file.ReadAt(content, from)
	if n == len(content) {
		return content, nil
	}
	return nil, err
}

// loaded says that everything before the position is stored.
func (s *Spool) loaded(at position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segments[0].number == at.number {
		s.read = at.offset
	}
	s.dropLoaded()
}

// dropLoaded deletes segments that were loaded, except the one being written, which is begun anew only when it
// is full.
func (s *Spool) dropLoaded() {
	for len(s.segments) > 1 && s.read >= s.segments[0].size {
		if err := os.Remove(s.path(s.segments[0].number)); err != nil {
			s.config.Log.Warn("capture could not delete a loaded segment", "error", err)
		}
		s.segments = s.segments[1:]
		s.read = 0
	}
}
