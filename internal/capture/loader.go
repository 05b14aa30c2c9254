package capture

import (
	"context"
	"log/slog"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// LoaderConfig sets up a loader. The zero value works.
type LoaderConfig struct {
	Batch int              // records of one transaction; default 500
	Pause time.Duration    // longest pause before trying again while PostgreSQL is gone; default 2s
	Wait  time.Duration    // for more records, so that few batches are small; default 25ms
	Log   *slog.Logger     // default slog.Default()
	Now   func() time.Time // default time.Now
}

// Loader brings a spool's records into PostgreSQL, in the order in which they were written.
type Loader struct {
	spool  *Spool
	store  *Store
	config LoaderConfig
	days   calendar
}

// NewLoader starts nothing.
func NewLoader(spool *Spool, store *Store, config LoaderConfig) *Loader {
	setDefault(&config.Batch, 500)
	setDefault(&config.Pause, 2*time.Second)
	setDefault(&config.Wait, 25*time.Millisecond)
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Loader{spool: spool, store: store, config: config, days: calendar{store: store, now: config.Now, known: map[time.Time]bool{}}}
}

// Run loads until ctx ends or the spool is closed and loaded; it goes on through failures of PostgreSQL. It
// returns ctx's error, or nil when the spool is done.
func (l *Loader) Run(ctx context.Context) error {
	pause := l.config.Pause / 16
	for {
		closed := isClosed(l.spool.done) // asked before the load, so that nothing written after it is missed
		n, err := l.Load(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			l.config.Log.Warn("capture could not load its spool; tries again", "error", err, "pause", pause)
			if !sleep(ctx, pause) {
				return ctx.Err()
			}
			pause = min(2*pause, l.config.Pause)
		case n == l.config.Batch:
			pause = l.config.Pause / 16
		case n > 0:
			pause = l.config.Pause / 16
			l.gather(ctx)
		case closed:
			return nil
		default:
			select {
			case <-l.spool.fresh:
				l.gather(ctx)
			case <-l.spool.done:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// gather waits for more records: a transaction costs as much as many of them.
func (l *Loader) gather(ctx context.Context) {
	timer := time.NewTimer(l.config.Wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.spool.done:
	case <-ctx.Done():
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Load loads one batch and says how many records it had; 0 means that everything synced is loaded.
func (l *Loader) Load(ctx context.Context) (int, error) {
	for {
		b, err := l.spool.next(l.config.Batch)
		if err != nil {
			return 0, err
		}
		if len(b.records) > 0 {
			undated := l.days.keep(ctx, b.records)
			if err := l.storeAll(ctx, b.records); err != nil {
				return 0, err
			}
			if undated != nil {
				l.config.Log.Warn("no partition could be made for a day; its interactions wait in the default one", "error", undated)
			}
		}
		l.spool.loaded(b)
		if len(b.records) > 0 || !b.moved {
			return len(b.records), nil
		}
	}
}

// storeAll stores what can be stored: a record that the database will not take alone is dropped and counted,
// because it would hold up all others for ever.
func (l *Loader) storeAll(ctx context.Context, records []record) error {
	err := l.store.store(ctx, records)
	if err == nil || !lifecycle.Is(err, lifecycle.Invalid) {
		return err
	}
	if len(records) == 1 {
		l.spool.refuse()
		l.config.Log.Error("the database refuses a captured record", "error", err)
		return nil
	}
	half := len(records) / 2
	if err := l.storeAll(ctx, records[:half]); err != nil {
		return err
	}
	return l.storeAll(ctx, records[half:])
}
