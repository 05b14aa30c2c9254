package capture

import (
	"errors"
	"runtime"
	"syscall"
	"time"
)

// chunk bounds what is written at once, in bytes.
const chunk = 1 << 20

// write is the one who writes. Whoever waits for a record waits for its group: all that came since the last
// write began.
func (s *Spool) write() {
	defer close(s.done)
	watch := time.AfterFunc(s.config.Wait, s.stall)
	watch.Stop()
	retry := time.NewTicker(s.config.Retry)
	defer retry.Stop()
	var w writer
	for {
		select {
		case <-s.wake:
			runtime.Gosched() // answers that are about to end come along
			s.flush(&w, watch, false)
		case <-retry.C:
			s.flush(&w, watch, true)
		case <-s.closing:
			s.flush(&w, watch, true)
			return
		}
	}
}

// flush writes all that waits. While the disk takes nothing it is asked again only by a retry.
func (s *Spool) flush(w *writer, watch *time.Timer, retry bool) {
	s.mu.Lock()
	s.forgetLoaded()
	nothing, probe := len(s.queue) == 0, s.failing != nil && retry
	if nothing || s.failing != nil && !retry {
		s.release(&s.group)
		s.mu.Unlock()
		if nothing && probe {
			s.probe()
		}
		return
	}
	s.current, s.group = s.group, nil
	s.began = time.Now()
	left := len(s.queue)
	s.mu.Unlock()
	watch.Reset(s.config.Wait)
	var err error
	for left > 0 && err == nil {
		var n int
		n, err = s.writeSome(w, left)
		left -= n
	}
	watch.Stop()
	s.mu.Lock()
	s.began, s.stalled = time.Time{}, false
	s.fail(err)
	s.release(&s.current)
	s.mu.Unlock()
	poke(s.fresh)
	poke(s.dirty)
}

// probe asks a disk that took nothing whether it does again.
func (s *Spool) probe() {
	err := s.begin()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail(err)
}

// release lets those of a group go on. The lock is held.
func (s *Spool) release(group *chan struct{}) {
	if *group != nil {
		close(*group)
		*group = nil
	}
}

// stall lets answers end although their records are not written: the write has taken too long.
func (s *Spool) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() || time.Since(s.began) < s.config.Wait {
		return // that write has ended
	}
	s.stalled = true
	for _, e := range s.queue {
		s.late(e)
	}
	s.config.Log.Error("capture's disk is slow; answers end before their records are written", "waited", s.config.Wait)
	s.release(&s.current)
	s.release(&s.group)
}

// fail remembers whether the disk takes what is written. Feedback that waits is refused, so that it is sent again.
// The lock is held.
func (s *Spool) fail(err error) {
	switch {
	case err != nil && s.failing == nil:
		s.config.Log.Error("capture cannot write its spool; records wait in memory", "error", err)
	case err == nil && s.failing != nil:
		s.config.Log.Info("capture writes its spool again")
	}
	s.failing = err
	if err == nil {
		return
	}
	kept := s.queue[:0]
	for _, e := range s.queue {
		switch {
		case e.synced != nil:
			e.synced <- err
			s.held -= e.size()
		default:
			s.late(e)
			kept = append(kept, e)
		}
	}
	clear(s.queue[len(kept):])
	s.queue = kept
	s.release(&s.group)
}

// late counts an answer that ends before its record is written, once. The lock is held.
func (s *Spool) late(e *entry) {
	if e.synced == nil && !e.late {
		e.late = true
		s.losses.Late++
	}
}

// forgetLoaded drops from the queue what went to the database past the disk. The lock is held.
func (s *Spool) forgetLoaded() {
	kept := s.queue[:0]
	for _, e := range s.queue {
		if e.loaded {
			s.leave(e)
			continue
		}
		kept = append(kept, e)
	}
	clear(s.queue[len(kept):])
	s.queue = kept
}

// leave counts an entry that left the queue and is kept. The lock is held.
func (s *Spool) leave(e *entry) {
	s.held -= e.size()
	if e.synced == nil {
		a := s.account(e.service)
		a.Waiting--
		a.Captured++
	}
}

// writer holds what is used again from write to write.
type writer struct {
	records, texts []byte
	places         []place
	ends           []int64 // of the frames in records
}

// writeSome writes the head of the queue, at most so many entries, and says how many.
func (s *Spool) writeSome(w *writer, most int) (n int, err error) {
	s.mu.Lock()
	size := int64(0)
	for n < most && (n == 0 || size+s.queue[n].size() <= chunk) {
		size += s.queue[n].size()
		n++
	}
	head := s.queue[:n]
	s.writing = n
	s.mu.Unlock()
	err = s.put(w, head)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = 0
	if err != nil {
		return 0, err
	}
	began := s.active.size - int64(len(w.records))
	for i, e := range head {
		s.leave(e)
		s.ahead.add(s.active, began, w.ends[i], e, s.config.Ahead)
		began = w.ends[i]
		if e.synced != nil {
			s.awaiting = append(s.awaiting, awaited{e.synced, s.active.records})
			poke(s.hurry)
		}
	}
	rest := copy(s.queue, s.queue[n:])
	clear(s.queue[rest:])
	s.queue = s.queue[:rest]
	return n, nil
}

// put writes entries: their texts first, so that a record never names a text that is not there. Texts that find
// no room are given up, records are not.
func (s *Spool) put(w *writer, head []*entry) error {
	if err := s.prepare(head); err != nil {
		return err
	}
	w.texts, w.places = w.texts[:0], w.places[:0]
	said := 0
	for _, e := range head {
		var at place
		if e.said > 0 {
			at.offset = s.active.text + int64(len(w.texts))
			texts := e.record.texts()
			w.texts = appendTextFrame(w.texts, texts[:]...)
			at.length = uint32(e.said + frameHeader)
			said++
		}
		w.places = append(w.places, at)
	}
	if said > 0 && s.putTexts(w.texts, said) != nil {
		clear(w.places)
		s.forgetTexts(head)
	}
	w.records, w.ends = w.records[:0], w.ends[:0]
	for i, e := range head {
		if e.given {
			w.places[i] = givenUp
		}
		putPlace(e.payload, w.places[i])
		w.records = appendFrame(w.records, e.payload)
		w.ends = append(w.ends, s.active.size+int64(len(w.records)))
	}
	err := s.putRecords(w.records)
	if err != nil && said > 0 {
		s.takeBack(head, said)
	}
	return err
}

func (s *Spool) putTexts(frames []byte, said int) error {
	a := s.active
	err := s.append(&a.texts, s.textPath(a.number), a.text, frames)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.losses.Payloads += int64(said)
		s.config.Log.Error("capture gave payloads up", "payloads", said, "error", err)
		return err
	}
	a.text += int64(len(frames))
	a.said += said
	return nil
}

func (s *Spool) putRecords(frames []byte) error {
	a := s.active
	if err := s.append(&a.records, s.path(a.number), a.size, frames); err != nil {
		return err
	}
	s.mu.Lock()
	a.size += int64(len(frames))
	s.mu.Unlock()
	return nil
}

// forgetTexts leaves entries without texts that were given up and counted.
func (s *Spool) forgetTexts(head []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range head {
		s.held -= e.giveUp()
	}
}

// takeBack undoes what was said of texts whose records could not be written: they come again, unless they were
// given up to make room for the records.
func (s *Spool) takeBack(head []*entry, said int) {
	s.mu.Lock()
	given := s.active.given
	if !given {
		s.active.said -= said
		s.active.spoiled = true // the texts stand there unnamed
	}
	s.mu.Unlock()
	if given {
		s.forgetTexts(head)
	}
}

// append writes at the end of a file, which is made if it is not there. Where the disk is full payloads are given
// up, oldest first, until it takes it. What was written in part is cut off again.
func (s *Spool) append(h **handle, path string, size int64, frames []byte) error {
	for {
		err := s.appendOnce(h, path, size, frames)
		if err == nil || !isFull(err) || !s.giveUpOldest(*h) {
			return err
		}
	}
}

func (s *Spool) appendOnce(h **handle, path string, size int64, frames []byte) error {
	if *h == nil {
		f, err := s.create(path)
		if err != nil {
			return err
		}
		s.mu.Lock()
		*h = &handle{file: f}
		s.newFiles = true
		s.mu.Unlock()
	}
	if _, err := (*h).file.Write(frames); err != nil {
		if cut := (*h).file.Truncate(size); cut != nil {
			// Nobody knows what of it is there: the next write begins a new segment.
			s.mu.Lock()
			s.active.spoiled = true
			s.mu.Unlock()
		}
		return err
	}
	s.mu.Lock()
	if !(*h).dirty {
		(*h).dirty = true
		s.unsynced = append(s.unsynced, *h)
	}
	s.mu.Unlock()
	return nil
}

// errBound says that the spool holds as much as it may.
var errBound = errors.New("the spool holds as many bytes as it may")

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, errBound)
}
