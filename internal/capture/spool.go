package capture

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// SpoolConfig sets up a spool. Dir is required.
type SpoolConfig struct {
	Dir     string        // for this process alone; made if it is not there
	Queue   int           // records that wait in memory; default 4096
	Flush   time.Duration // that an interaction waits for others before it is synced; default 100ms
	Segment int64         // bytes after which a new file begins; default 8 MiB
	Disk    int64         // bytes of all files, beyond which interactions are dropped; default 1 GiB
	Log     *slog.Logger  // default slog.Default()
}

// record is what a frame holds: one of the two.
type record struct {
	Interaction *lifecycle.Interaction `json:"i,omitempty"`
	Feedback    *lifecycle.Feedback    `json:"f,omitempty"`
}

type queued struct {
	record record
	synced chan<- error // nil: nobody waits
}

// Spool takes records on disk. It is safe for concurrent use.
type Spool struct {
	config  SpoolConfig
	lock    *os.File
	queue   chan queued
	closing chan struct{}
	done    chan struct{}
	once    sync.Once
	fresh   chan struct{} // something was synced
	dropped atomic.Int64
	damaged atomic.Int64

	mu       sync.Mutex
	segments []segment // oldest first; the last one is being written
	file     *os.File
	read     int64 // offset in segments[0] up to which records were loaded
}

type segment struct {
	number int64
	size   int64 // synced bytes
}

// OpenSpool cuts torn tails off, begins a new segment and starts the writer; Close ends it. A folder that
// another process uses is Busy.
func OpenSpool(config SpoolConfig) (*Spool, error) {
	if config.Dir == "" {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "capture: give the spool a folder")
	}
	setDefault(&config.Queue, 4096)
	setDefault(&config.Flush, 100*time.Millisecond)
	setDefault(&config.Segment, 8<<20)
	setDefault(&config.Disk, 1<<30)
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
		config: config, lock: lock, queue: make(chan queued, config.Queue),
		closing: make(chan struct{}), done: make(chan struct{}), fresh: make(chan struct{}, 1),
	}
	if err := s.recover(); err != nil {
		lock.Close()
		return nil, err
	}
	go s.write()
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

// Interaction takes one served request. It never blocks: what finds no room is dropped and counted.
func (s *Spool) Interaction(i lifecycle.Interaction) {
	select {
	case <-s.closing:
		s.dropped.Add(1)
		return
	default:
	}
	select {
	case s.queue <- queued{record: record{Interaction: &i}}:
	default:
		s.dropped.Add(1)
	}
}

// Feedback takes what a user said and returns when it is synced. An unknown kind or a missing ID is Invalid;
// everything else that fails is Unavailable, and the same feedback may be sent again.
func (s *Spool) Feedback(ctx context.Context, f lifecycle.Feedback) error {
	if err := checkFeedback(f); err != nil {
		return err
	}
	synced := make(chan error, 1)
	select {
	case s.queue <- queued{record{Feedback: &f}, synced}:
	case <-s.closing:
		return lifecycle.Errorf(lifecycle.Unavailable, "keep feedback: the spool is closing")
	case <-ctx.Done():
		return spoolError(ctx.Err(), "keep feedback")
	}
	select {
	case err := <-synced:
		return spoolError(err, "keep feedback")
	case <-s.done:
		select {
		case err := <-synced:
			return spoolError(err, "keep feedback")
		default:
			return lifecycle.Errorf(lifecycle.Unavailable, "keep feedback: the spool is closed")
		}
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

// Dropped counts records that found no room or could not be written.
func (s *Spool) Dropped() int64 { return s.dropped.Load() }

// Damaged counts bytes of records that were on disk and could not be read.
func (s *Spool) Damaged() int64 { return s.damaged.Load() }

// Close writes what is queued and stops. Records stay on disk until they are loaded.
func (s *Spool) Close() error {
	s.once.Do(func() { close(s.closing) })
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	s.lock.Close()
	return spoolError(err, "close the spool")
}

// write gathers what is queued for a flush time, or until somebody waits, and syncs it at once.
func (s *Spool) write() {
	defer close(s.done)
	for {
		select {
		case first := <-s.queue:
			s.store(s.gather(first))
		case <-s.closing:
			for {
				select {
				case q := <-s.queue:
					s.store([]queued{q})
				default:
					return
				}
			}
		}
	}
}

func (s *Spool) gather(first queued) []queued {
	batch := []queued{first}
	waited := first.synced != nil
	timer := time.NewTimer(s.config.Flush)
	defer timer.Stop()
	for len(batch) < s.config.Queue {
		if waited {
			select {
			case q := <-s.queue:
				batch = append(batch, q)
				continue
			default:
				return batch
			}
		}
		select {
		case q := <-s.queue:
			batch = append(batch, q)
			waited = q.synced != nil
		case <-timer.C:
			return batch
		case <-s.closing:
			return batch
		}
	}
	return batch
}

func (s *Spool) store(batch []queued) {
	var frames []byte
	for _, q := range batch {
		payload, err := json.Marshal(q.record)
		if err != nil || len(payload) > maxPayload {
			s.dropped.Add(1)
			if q.synced != nil {
				q.synced <- lifecycle.Errorf(lifecycle.Invalid, "a record of this size or content cannot be kept")
			}
			continue
		}
		frames = appendFrame(frames, payload)
	}
	err := s.appendSynced(frames)
	if err != nil {
		s.dropped.Add(int64(len(batch)))
		s.config.Log.Error("capture could not write its spool", "records", len(batch), "error", err)
	}
	for _, q := range batch {
		if q.synced != nil {
			select {
			case q.synced <- err:
			default: // it was told already
			}
		}
	}
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}
