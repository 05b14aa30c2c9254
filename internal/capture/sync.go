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
		h.dirty = false // from here on it may be written, and stand in unsynced, again
	}
	s.mu.Unlock()
	var faults []error
	for _, h := range files {
		faults = append(faults, h.file.Sync())
	}
	if folder {
		faults = append(faults, syncFolder(s.config.Dir))
	}
	err := errors.Join(faults...)
	s.mu.Lock()
	for _, h := range files {
		if h.retired && !h.dirty {
			_ = h.file.Close() // all of it is synced, or nothing more can be done for it
		}
	}
	if err != nil {
		s.losses.Unsynced++
	}
	s.mu.Unlock()
	if err != nil {
		s.config.Log.Error("capture could not sync its spool; a power cut may lose what was written last", "error", err)
	}
	for _, w := range waiting {
		w <- spoolError(err, "sync the spool")
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
