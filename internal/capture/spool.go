package capture

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// SpoolConfig sets up a spool. Dir is required.
type SpoolConfig struct {
	Dir     string        // for this process alone; made if it is not there
	Memory  int64         // bytes of records that wait while the disk takes none; default 32 MiB
	Wait    time.Duration // that an answer's end waits for its record to be written; default 1s
	Flush   time.Duration // from a write until the sync that covers it begins, at most; default 50ms
	Retry   time.Duration // between tries to write while the disk takes nothing; default 500ms
	Segment int64         // bytes after which a new pair of files begins; default 8 MiB
	Disk    int64         // bytes of all files, beyond which payloads are given up, oldest first; default 1 GiB
	Ahead   int64         // bytes of written records that stay in memory until they are loaded; default 32 MiB, below 0 none
	Log     *slog.Logger  // default slog.Default()
}

// Spool takes records on disk. It is safe for concurrent use.
type Spool struct {
	config  SpoolConfig
	create  func(path string) (file, error)
	lock    *os.File
	wake    chan struct{} // the writer has work
	closing chan struct{}
	done    chan struct{} // the writer has ended
	fresh   chan struct{} // something can be loaded
	dirty   chan struct{} // the syncer has work
	hurry   chan struct{} // somebody waits for a sync
	synced  chan struct{} // the syncer has ended

	mu       sync.Mutex
	closed   bool
	accounts map[string]*Account
	losses   Losses
	queue    []*entry      // not on disk yet, oldest first
	held     int64         // bytes of the queue
	writing  int           // entries at the queue's head that are being written
	group    chan struct{} // closed when those who came since the last write began need not wait any longer; nil: nobody came
	current  chan struct{} // the same of those who came before it; nil: nobody waits
	began    time.Time     // of the write that goes on; zero: none does
	failing  error         // why the disk takes nothing; nil: it does
	stalled  bool          // the write that goes on takes longer than Wait

	segments []*segment // oldest first
	active   *segment   // the last of them, where one is being written
	read     int64      // offset in segments[0] up to which records were loaded
	ahead    ahead      // what need not be read to be loaded
	unsynced []*handle
	newFiles bool      // since the folder was synced
	awaiting []awaited // told after the next sync
}

// entry is a record on its way to the disk.
type entry struct {
	service string // "" for feedback
	record  record
	payload []byte
	said    int          // bytes of its texts; 0: it has none
	synced  chan<- error // feedback's; nil: nobody waits for a sync
	loaded  bool         // it went to the database past the disk
	late    bool         // its answer ended before it was written
	given   bool         // its text was given up
}

// giveUp drops the text for want of room, and gives how much room that made.
func (e *entry) giveUp() (bytes int64) {
	if e.said == 0 {
		return 0
	}
	bytes = int64(e.said)
	e.said, e.given = 0, true
	i := e.record.Interaction
	i.Input, i.Output, i.Content = "", "", lifecycle.ContentDropped
	return bytes
}

func (e *entry) size() int64 { return int64(len(e.payload) + e.said + 2*frameHeader) }

// awaited is somebody who waits until what was written to a file is synced.
type awaited struct {
	told chan<- error
	file *handle
}

// OpenSpool cuts torn tails off, begins a new segment and starts the writer; Close ends it. A folder that
// another process uses is Busy. A disk that takes nothing is no reason not to start: records wait in memory.
func OpenSpool(config SpoolConfig) (*Spool, error) { return openSpool(config, createFile) }

func openSpool(config SpoolConfig, create func(string) (file, error)) (*Spool, error) {
	if config.Dir == "" {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "capture: give the spool a folder")
	}
	setDefault(&config.Memory, 32<<20)
	setDefault(&config.Wait, time.Second)
	setDefault(&config.Flush, 50*time.Millisecond)
	setDefault(&config.Retry, 500*time.Millisecond)
	setDefault(&config.Segment, 8<<20)
	setDefault(&config.Disk, 1<<30)
	setDefault(&config.Ahead, 32<<20)
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, spoolError(err, "make the spool's folder")
	}
	lock, err := os.OpenFile(filepath.Join(config.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, spoolError(err, "lock the spool")
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, lifecycle.Errorf(lifecycle.Busy, "the spool in %s is used by another process", config.Dir)
	}
	s := &Spool{
		config: config, create: create, lock: lock, accounts: map[string]*Account{},
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
		fresh: make(chan struct{}, 1), dirty: make(chan struct{}, 1), hurry: make(chan struct{}, 1), synced: make(chan struct{}),
	}
	if err := s.recover(); err != nil {
		lock.Close()
		return nil, err
	}
	if err := s.begin(); err != nil {
		s.fail(err)
	}
	go s.write()
	go s.sync()
	return s, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func spoolError(err error, doing string) error {
	if err == nil {
		return nil
	}
	return lifecycle.Errorf(lifecycle.Unavailable, "%s: %w", doing, err)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Interaction takes one request that was answered, and returns when its record is written: from then on a kill of
// the process does not lose it. A disk that is slow, full or read-only holds no answer up for longer than
// SpoolConfig.Wait; the record then waits in memory, and what finds no room there is dropped and counted.
func (s *Spool) Interaction(i lifecycle.Interaction) {
	r := record{Interaction: &i}
	payload, err := encodeRecord(r)
	e := &entry{service: i.Service, record: r, payload: payload, said: r.said()}
	if e.said > maxPayload {
		e.giveUp()
		s.mu.Lock()
		s.losses.Payloads++
		s.mu.Unlock()
	}
	s.mu.Lock()
	a := s.account(i.Service)
	a.InFlight--
	if err != nil || len(payload) > maxPayload || s.closed || !s.makeRoom(e) {
		a.Dropped++
		s.losses.Records++
		s.mu.Unlock()
		return
	}
	a.Waiting++
	written := s.enqueue(e)
	late := s.failing != nil || s.stalled
	if late {
		s.late(e)
	}
	s.mu.Unlock()
	poke(s.wake)
	if !late {
		<-written
	}
}

// Feedback takes what a user said and returns when it is synced. An unknown kind or a missing ID is Invalid;
// everything else that fails is Unavailable, and the same feedback may be sent again.
func (s *Spool) Feedback(ctx context.Context, f lifecycle.Feedback) error {
	if err := checkFeedback(f); err != nil {
		return err
	}
	r := record{Feedback: &f}
	payload, err := encodeRecord(r)
	if err != nil || len(payload) > maxPayload {
		return lifecycle.Errorf(lifecycle.Invalid, "feedback of this size or content cannot be kept")
	}
	synced := make(chan error, 1)
	e := &entry{record: r, payload: payload, synced: synced}
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return lifecycle.Errorf(lifecycle.Unavailable, "keep feedback: the spool is closed")
	case s.failing != nil:
		err := s.failing
		s.mu.Unlock()
		return spoolError(err, "keep feedback")
	case !s.makeRoom(e):
		s.mu.Unlock()
		return lifecycle.Errorf(lifecycle.Unavailable, "keep feedback: too much waits for the disk")
	}
	s.enqueue(e)
	s.mu.Unlock()
	poke(s.wake)
	select {
	case err := <-synced:
		return spoolError(err, "keep feedback")
	case <-ctx.Done():
		return spoolError(ctx.Err(), "keep feedback")
	}
}

func checkFeedback(f lifecycle.Feedback) error {
	var faults lifecycle.Problems
	if f.ID == "" || f.Service == "" || f.Interaction == "" {
		faults.Add("feedback", "incomplete", "give id, service and interaction")
	}
	if !slices.Contains(lifecycle.FeedbackKinds(), f.Kind) {
		faults.Add("kind", "unknown", "give one of %v", lifecycle.FeedbackKinds())
	}
	return faults.Err("feedback")
}

// enqueue gives what is closed when the entry was written, or when nobody need wait for it any longer. The lock is
// held.
func (s *Spool) enqueue(e *entry) <-chan struct{} {
	s.queue = append(s.queue, e)
	s.held += e.size()
	if s.group == nil {
		s.group = make(chan struct{})
	}
	return s.group
}

// makeRoom says whether an entry may wait in memory. Payloads that wait are given up for it, oldest first. The lock
// is held.
func (s *Spool) makeRoom(e *entry) bool {
	for _, old := range s.queue[s.writing:] {
		if s.held+e.size() <= s.config.Memory {
			return true
		}
		if old.said > 0 {
			s.held -= old.giveUp()
			s.losses.Payloads++
		}
	}
	if s.held+e.size() > s.config.Memory && e.said > 0 {
		e.giveUp()
		s.losses.Payloads++
	}
	return s.held+e.size() <= s.config.Memory
}

// Dir is the spool's folder.
func (s *Spool) Dir() string { return s.config.Dir }

// Close writes what waits and stops. Records stay on disk until they are loaded.
func (s *Spool) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		close(s.closing)
	}
	<-s.done
	<-s.synced
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	if n := len(s.queue); n > 0 {
		s.config.Log.Error("capture could not write what waited; it is lost unless it is loaded before the process ends", "records", n, "error", s.failing)
	}
	if s.active != nil {
		s.active.retire()
		s.active = nil
	}
	err := s.lock.Close()
	s.lock = nil
	return spoolError(err, "close the spool")
}
