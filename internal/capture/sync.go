package capture

import (
	"errors"
	"os"
	"time"
)

// sync is the one who syncs: what was written is covered by a sync that begins at most Flush later, or at once
// where somebody waits for it. It runs beside the writer, so no answer waits for a sync.
func (s *Spool) sync() {
	defer close(s.synced)
	timer := time.NewTimer(s.config.Flush)
	defer timer.Stop()
	for {
		select {
		case <-s.dirty:
		case <-s.done:
			s.syncAll()
			return
		}
		timer.Reset(s.config.Flush)
		select {
		case <-timer.C:
		case <-s.hurry:
		case <-s.done:
		}
		s.syncAll()
	}
}

// syncAll syncs what was written since the last time, and the folder where files were made.
func (s *Spool) syncAll() {
	s.mu.Lock()
	files, folder, waiting := s.unsynced, s.newFiles, s.awaiting
	s.unsynced, s.newFiles, s.awaiting = nil, false, nil
	for _, h := range files {
		h.dirty, h.syncing = false, true // from here on it may be written, and stand in unsynced, again
	}
	s.mu.Unlock()
	faults := make([]error, len(files))
	for i, h := range files {
		faults[i] = h.file.Sync()
	}
	var lost error
	if folder {
		lost = syncFolder(s.config.Dir)
	}
	err := errors.Join(append(faults, lost)...)
	s.mu.Lock()
	s.newFiles = s.newFiles || lost != nil
	for i, h := range files {
		h.syncing = false
		s.distrust(h, faults[i])
		if h.retired && !h.dirty {
			_ = h.file.Close() // all of it is synced, or nothing more can be done for it
		}
	}
	if err != nil {
		s.losses.Unsynced++
	}
	told := make([]error, len(waiting))
	for i, w := range waiting {
		told[i] = errors.Join(w.file.failed, lost) // its file may have been among an earlier sync's
	}
	s.mu.Unlock()
	if err != nil {
		s.config.Log.Error("capture could not sync its spool; a power cut may lose what was written last", "error", err)
	}
	for i, w := range waiting {
		w.told <- spoolError(told[i], "sync the spool")
	}
}

// distrust remembers that a sync of a file failed: systems say so once, and then forget what they could not write. What
// comes next goes to another file. The lock is held.
func (s *Spool) distrust(h *handle, err error) {
	if err == nil {
		return
	}
	h.failed = err
	if a := s.active; a != nil && (a.records == h || a.texts == h) {
		a.spoiled = true
	}
}

// syncFolder makes new files be there after a power cut.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
