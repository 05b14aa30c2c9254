package compute

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/refitml/refit/internal/lifecycle"
)

// LocalConfig sets up the local engine. Root must be given; the rest works as zero.
type LocalConfig struct {
	Root  string            // folder for runs and locks, on a local disk; processes that share it are one engine
	Slots int               // jobs at once, over all processes; default 1; should be the same for all who share Root
	Grace time.Duration     // from SIGTERM to SIGKILL; default 30s
	Shim  []string          // command that calls ShimMain with the arguments after it; default: this program, "job-shim"
	Env   map[string]string // added to every job's environment and visible to this user's processes; no secrets
	Log   *slog.Logger      // default: nothing is logged
}

// Local runs jobs as processes of this machine. It is safe for concurrent use, also by many processes.
type Local struct {
	cfg LocalConfig
	id  string
}

var _ Engine = (*Local)(nil)

const (
	shimStart  = 30 * time.Second // within which a shim says that its try is queued
	sweepBound = 5 * time.Second  // for killed processes to be gone
)

// OpenLocal makes the folders it needs and starts nothing.
func OpenLocal(cfg LocalConfig) (*Local, error) {
	if cfg.Slots == 0 {
		cfg.Slots = 1
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Root == "" || cfg.Slots < 0 || cfg.Grace < 0 {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "local engine: give a root folder, and slots and grace that are not negative")
	}
	root, err := filepath.Abs(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("local engine: %w", err)
	}
	cfg.Root = root
	if len(cfg.Shim) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("local engine: find this program for its shims: %w", err)
		}
		cfg.Shim = []string{self, "job-shim"}
	}
	for _, sub := range []string{"runs", "slots", "locks", "trash"} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o700); err != nil {
			return nil, fmt.Errorf("local engine: %w", err)
		}
	}
	id, err := identity(root)
	return &Local{cfg: cfg, id: id}, err
}

// identity gives the root's name, made at first use: a handle says with it whose it is, so that an engine on
// another machine does not take a run that it cannot see for a lost one.
func identity(root string) (string, error) {
	path := filepath.Join(root, "engine")
	name := filepath.Join(root, ".engine-"+rand.Text())
	if err := os.WriteFile(name, []byte("local-"+rand.Text()), 0o600); err != nil {
		return "", fmt.Errorf("name the local engine: %w", err)
	}
	err := os.Link(name, path) // fails if it is there, so the first name stays
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err = errors.Join(err, os.Remove(name)); err != nil {
		return "", fmt.Errorf("name the local engine: %w", err)
	}
	id, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the local engine's name: %w", err)
	}
	return string(id), nil
}

// Submit is Engine's. A command that cannot be started is JobRejected, seen by Observe.
func (l *Local) Submit(ctx context.Context, run Run) (Handle, error) {
	if err := run.Check(); err != nil {
		return Handle{}, err
	}
	h := Handle{Engine: l.id, Key: run.Key, Try: run.Try}
	unlock, err := l.lockRun(ctx, run.Key)
	if err != nil {
		return Handle{}, err
	}
	defer unlock()
	dir := dirOfTry(l.cfg.Root, run.Key, run.Try)
	if err := l.checkOtherTries(run); err != nil {
		return Handle{}, err
	}
	known, err := dir.readOrder()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := l.prepare(dir, run); err != nil {
			kind := lifecycle.Unavailable
			if lifecycle.Is(err, lifecycle.Invalid) || errors.Is(err, fs.ErrNotExist) {
				kind = lifecycle.Invalid
			}
			return Handle{}, lifecycle.Errorf(kind, "prepare try %d of %s: %w", run.Try, run.Spec.Name, err)
		}
	case err != nil:
		return Handle{}, lifecycle.Errorf(lifecycle.Unavailable, "submit %s: %w", run.Spec.Name, err)
	case !sameSpec(known.Run.Spec, run.Spec):
		return Handle{}, lifecycle.Errorf(lifecycle.Conflict, "try %d of run %q was submitted with another spec", run.Try, run.Key)
	}
	begun, err := dir.begun()
	if err == nil && !begun {
		err = l.startShim(ctx, dir)
	}
	if err != nil {
		return Handle{}, lifecycle.Errorf(lifecycle.Unavailable, "start try %d of %s: %w", run.Try, run.Spec.Name, err)
	}
	return h, nil
}

// begun says whether a shim has taken the try. Then no other may.
func (d tryDir) begun() (bool, error) {
	_, err := os.Stat(d.state())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// checkOtherTries keeps two tries of one run from running at once. The caller holds the run's lock.
func (l *Local) checkOtherTries(run Run) error {
	tries, err := l.tries(run.Key)
	if err != nil {
		return err
	}
	for _, try := range tries {
		if try > run.Try {
			return lifecycle.Errorf(lifecycle.Conflict, "try %d of run %q is older than try %d", run.Try, run.Key, try)
		}
		if try == run.Try {
			continue
		}
		st, err := l.settled(dirOfTry(l.cfg.Root, run.Key, try))
		if err != nil {
			return err
		}
		if !st.Phase.Ended() {
			return lifecycle.Errorf(lifecycle.Busy, "try %d of run %q is still %s", try, run.Key, st.Phase)
		}
	}
	return nil
}

func (l *Local) tries(key string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(runDir(l.cfg.Root, key), "tries"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "list the tries of run %q: %w", key, err)
	}
	var out []int
	for _, entry := range entries {
		if try, err := strconv.Atoi(entry.Name()); err == nil {
			out = append(out, try)
		}
	}
	return out, nil
}

// prepare makes the folders of a try; the order, written last, says that they are whole.
func (l *Local) prepare(dir tryDir, run Run) error {
	if err := os.RemoveAll(string(dir)); err != nil { // what a submitter that died half-way left
		return err
	}
	for _, folder := range []string{dir.checkpoints(), dir.inputs(), dir.outputs(), dir.home()} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	for name, from := range run.Inputs {
		if err := layInput(from, filepath.Join(dir.inputs(), name)); err != nil {
			return fmt.Errorf("input %s: %w", name, err)
		}
	}
	if err := writeJSON(dir.spec(), specFile(run.Spec)); err != nil {
		return err
	}
	return writeJSON(dir.order(), order{Run: run, Slots: l.cfg.Slots, Grace: l.cfg.Grace})
}

// environment of a shim, which its job inherits.
func (l *Local) environment(dir tryDir) []string {
	env := map[string]string{"PATH": os.Getenv("PATH"), "HOME": dir.home(), "TMPDIR": dir.home()}
	maps.Copy(env, l.cfg.Env)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// settled reads a try's state; a try whose shim is gone without a final state is swept and marked lost first.
func (l *Local) settled(dir tryDir) (state, error) {
	for range 3 {
		st, err := dir.readState()
		if err == nil && st.Phase.Ended() {
			return st, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return state{}, lifecycle.Errorf(lifecycle.Unavailable, "read the state of a try: %w", err)
		}
		held, lockErr := lockHeld(dir.shimLock())
		if lockErr != nil {
			return state{}, lifecycle.Errorf(lifecycle.Unavailable, "ask whether a shim lives: %w", lockErr)
		}
		if held {
			if err != nil { // it begins just now
				st = state{Phase: lifecycle.JobQueued, ExitCode: -1}
			}
			return st, nil
		}
		if err := l.markLost(dir); err != nil {
			return state{}, err
		}
	}
	return state{}, lifecycle.Errorf(lifecycle.Unavailable, "the state of a try does not settle")
}

// markLost ends a try without a shim, unless a shim comes first. It holds the shim's lock meanwhile.
func (l *Local) markLost(dir tryDir) error {
	lock, err := tryLock(dir.shimLock())
	if err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "mark a try as lost: %w", err)
	}
	if lock == nil {
		return nil // a shim, or another who marks; the caller looks again
	}
	defer lock.Close()
	st, err := dir.readState()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		st = state{ExitCode: -1}
	case err != nil:
		return lifecycle.Errorf(lifecycle.Unavailable, "read the state of a try: %w", err)
	case st.Phase.Ended():
		return nil
	default:
		if err := st.Session.sweep(dir.mark(), sweepBound); err != nil {
			return lifecycle.Errorf(lifecycle.Unavailable, "a try lost its shim and what it left running cannot be ended yet: %w", err)
		}
	}
	st.Phase, st.ExitCode, st.Ended = lifecycle.JobLost, -1, time.Now().UTC()
	st.Reason = "the process that kept the job is gone without a word; nothing of the job runs any more"
	if err := writeJSON(dir.state(), st); err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "mark a try as lost: %w", err)
	}
	l.cfg.Log.Warn("a job was lost", "try", string(dir))
	return nil
}

// lockRun takes the lock of a run; runs share a few lock files, so that none stays behind for each.
func (l *Local) lockRun(ctx context.Context, key string) (func(), error) {
	name := filepath.Base(runDir(l.cfg.Root, key))[:2]
	lock, err := waitLock(ctx, filepath.Join(l.cfg.Root, "locks", name))
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "lock run %q: %w", key, err)
	}
	return func() { _ = lock.Close() }, nil // closing frees the lock; nothing was written
}

// absent says whether an error means that there is no such file.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }
