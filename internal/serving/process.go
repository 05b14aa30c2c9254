package serving

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// markVariable stands in the environment of every server that an engine starts; its value is the path of the
// server's state file. It finds a server whose starter died before it could write down the pid.
const markVariable = "REFIT_SERVER"

// identity is a process, told from every other process that ever had its pid.
type identity struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"`   // ticks since boot, field 22 of /proc/PID/stat
	BootID string `json:"boot_id"` // of the kernel that counted the ticks
}

// identify reads who has the pid now. A zombie is nobody: it runs no code any more.
func identify(pid int) (identity, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return identity{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The command stands in parentheses and may hold anything, so fields are counted from the last one.
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return identity{}, fmt.Errorf("look at process %d: unknown form of stat", pid)
	}
	fields := strings.Fields(string(raw[end+1:]))
	if len(fields) < 20 {
		return identity{}, fmt.Errorf("look at process %d: unknown form of stat", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return identity{}, fmt.Errorf("process %d has ended: %w", pid, os.ErrProcessDone)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return identity{}, fmt.Errorf("look at process %d: start time: %w", pid, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, fmt.Errorf("look at process %d: boot ID: %w", pid, err)
	}
	return identity{PID: pid, Start: start, BootID: strings.TrimSpace(string(boot))}, nil
}

// alive says whether this very process still runs.
func (p identity) alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := identify(p.PID)
	return err == nil && now == p
}

// findMarked looks for the process that carries the mark. It sees processes of the same user only.
func findMarked(statePath string) (identity, bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return identity{}, false
	}
	mark := []byte(markVariable + "=" + statePath)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err != nil {
			continue
		}
		for _, variable := range bytes.Split(environment, []byte{0}) {
			if !bytes.Equal(variable, mark) {
				continue
			}
			if found, err := identify(pid); err == nil {
				return found, true
			}
		}
	}
	return identity{}, false
}

// killTime is how long a process may take to be gone after SIGKILL, which it cannot refuse: the kernel gives much memory
// back, and a GPU's.
const killTime = 30 * time.Second

// stop asks the process to end and insists after grace. It returns when the process is gone, or with ctx's
// error. Signals go through a pidfd, so a reused pid is never hit.
func (p identity) stop(ctx context.Context, grace time.Duration) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.alive() { // checked after opening: from here on the descriptor is this process or nobody
		return nil
	}
	for _, ask := range []struct {
		signal unix.Signal
		limit  time.Duration
	}{{unix.SIGTERM, grace}, {unix.SIGKILL, killTime}} {
		if err := unix.PidfdSendSignal(fd, ask.signal, nil, 0); err != nil {
			if errors.Is(err, unix.ESRCH) {
				return nil
			}
			return fmt.Errorf("send %s to process %d: %w", ask.signal, p.PID, err)
		}
		gone, err := waitGone(ctx, fd, ask.limit)
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d did not end within %s of SIGKILL", p.PID, killTime)
}

// waitGone waits until the pidfd says that the process ended.
func waitGone(ctx context.Context, fd int, limit time.Duration) (bool, error) {
	const slice = 100 // milliseconds between looks at ctx
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, slice)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("wait for a process: %w", err)
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// lock takes the exclusive lock of a file over all processes and waits for it. The kernel frees it when
// the holder dies; a child that was just forked holds it until its exec, after which its mark can be seen.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for the lock %s: %w", path, ctx.Err())
		case <-ticker.C:
		}
	}
}
