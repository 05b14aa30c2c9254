package compute

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"github.com/refitml/refit/internal/lifecycle"
)

// find gives the folder of a handle's try. there is false for a try that this engine has no record of.
func (l *Local) find(h Handle) (dir tryDir, there bool, err error) {
	if h.Engine != l.id {
		return "", false, lifecycle.Errorf(lifecycle.Unavailable,
			"run %q is kept by engine %s and cannot be seen from %s (is the job folder another one, or on another machine?)", h.Key, h.Engine, l.id)
	}
	dir = dirOfTry(l.cfg.Root, h.Key, h.Try)
	_, err = os.Stat(dir.order())
	if absent(err) {
		return dir, false, nil
	}
	if err != nil {
		return dir, false, lifecycle.Errorf(lifecycle.Unavailable, "look for try %d of run %q: %w", h.Try, h.Key, err)
	}
	return dir, true, nil
}

// Observe is Engine's.
func (l *Local) Observe(ctx context.Context, h Handle) (lifecycle.JobStatus, error) {
	if err := ctx.Err(); err != nil {
		return lifecycle.JobStatus{}, err
	}
	dir, there, err := l.find(h)
	if err != nil {
		return lifecycle.JobStatus{}, err
	}
	if !there {
		return lifecycle.JobStatus{Phase: lifecycle.JobLost, ExitCode: -1, Reason: "this engine has no record of the try"}, nil
	}
	st, err := l.settled(dir)
	if err != nil {
		return lifecycle.JobStatus{}, lifecycle.Wrap(err, "observe try %d of run %q", h.Try, h.Key)
	}
	tail, whole, err := readTail(dir.progress(), progressTail)
	if err != nil {
		return lifecycle.JobStatus{}, lifecycle.Errorf(lifecycle.Unavailable, "read progress: %w", err)
	}
	status := lifecycle.JobStatus{
		Phase: st.Phase, ExitCode: st.ExitCode, Reason: st.Reason, Started: st.Started, Ended: st.Ended,
		Progress: lastProgress(tail, whole),
	}
	if status.Progress != nil && status.Phase == lifecycle.JobQueued {
		status.Phase = lifecycle.JobRunning // the job was quicker than the shim's word that it runs
	}
	return status, nil
}

// Cancel is Engine's. The wish is a file, so it outlives the one who asked.
func (l *Local) Cancel(_ context.Context, h Handle) error {
	dir, there, err := l.find(h)
	if err != nil || !there {
		return err
	}
	wish, err := os.OpenFile(dir.cancel(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = wish.Close()
	}
	if err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "cancel try %d of run %q: %w", h.Try, h.Key, err)
	}
	return nil
}

// LogTail is Engine's. Standard output and error are one log; a try that has printed nothing gives nothing.
func (l *Local) LogTail(_ context.Context, h Handle, limit int) ([]byte, error) {
	dir, there, err := l.find(h)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, lifecycle.Errorf(lifecycle.NotFound, "no record of try %d of run %q", h.Try, h.Key)
	}
	tail, _, err := readTail(dir.log(), int64(max(0, min(limit, logTailMost))))
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "read the log of run %q: %w", h.Key, err)
	}
	return tail, nil
}

// Outputs is Engine's. The folders stay until Remove.
func (l *Local) Outputs(ctx context.Context, h Handle) (map[string]string, error) {
	status, err := l.Observe(ctx, h)
	if err != nil {
		return nil, err
	}
	if status.Phase != lifecycle.JobSucceeded {
		return nil, lifecycle.Errorf(lifecycle.Refused, "try %d of run %q is %s; only a try that succeeded has outputs", h.Try, h.Key, status.Phase)
	}
	dir := dirOfTry(l.cfg.Root, h.Key, h.Try)
	o, err := dir.readOrder()
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Unavailable, "read the order of run %q: %w", h.Key, err)
	}
	out := make(map[string]string, len(o.Run.Spec.Outputs))
	for name := range o.Run.Spec.Outputs {
		out[name] = filepath.Join(dir.outputs(), name)
	}
	return out, nil
}

// Remove is Engine's.
func (l *Local) Remove(ctx context.Context, h Handle) error {
	if _, _, err := l.find(h); err != nil {
		return err
	}
	unlock, err := l.lockRun(ctx, h.Key)
	if err != nil {
		return err
	}
	defer unlock()
	tries, err := l.tries(h.Key)
	if err != nil {
		return err
	}
	for _, try := range tries {
		st, err := l.settled(dirOfTry(l.cfg.Root, h.Key, try))
		if err != nil {
			return err
		}
		if !st.Phase.Ended() {
			return lifecycle.Errorf(lifecycle.Busy, "try %d of run %q is still %s; cancel it first", try, h.Key, st.Phase)
		}
	}
	// Renamed first, so that a removal that is interrupted leaves no half of a run.
	trash := filepath.Join(l.cfg.Root, "trash", rand.Text())
	err = os.Rename(runDir(l.cfg.Root, h.Key), trash)
	if absent(err) {
		return nil
	}
	if err == nil {
		err = os.RemoveAll(trash)
	}
	if err != nil {
		return fmt.Errorf("remove run %q: %w", h.Key, err)
	}
	return nil
}
