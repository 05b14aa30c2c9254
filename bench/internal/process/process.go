// Package process runs the programs under measurement, each pinned to its core, and reads what they cost from the
// kernel: processor time of a process with its children, and resident memory.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Spec says what to start.
type Spec struct {
	Name string
	Core int // to pin to; below 0: none
	Args []string
	Env  []string  // added to this process's own
	Log  io.Writer // standard output and error
	Wait string    // address that answers when the program is ready
}

// Process is one running program.
type Process struct {
	Name string
	cmd  *exec.Cmd
	done chan error
}

// Start starts a program and waits until its address takes connections.
func Start(ctx context.Context, s Spec) (*Process, error) {
	args := s.Args
	if s.Core >= 0 {
		args = append([]string{"taskset", "-c", strconv.Itoa(s.Core)}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Stdout, cmd.Stderr = s.Log, s.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	p := &Process{Name: s.Name, cmd: cmd, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	if s.Wait == "" {
		return p, nil
	}
	for limit := time.Now().Add(time.Minute); ; {
		conn, err := net.DialTimeout("tcp", s.Wait, time.Second)
		if err == nil {
			return p, conn.Close()
		}
		select {
		case err := <-p.done:
			p.done <- err
			return nil, fmt.Errorf("%s ended before it answered on %s: %v", s.Name, s.Wait, err)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), p.Stop())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(limit) {
			return nil, errors.Join(fmt.Errorf("%s does not answer on %s", s.Name, s.Wait), p.Stop())
		}
	}
}

// Stop ends the program, at once if it does not go by itself.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill() // it may have gone in this moment
		<-p.done
	}
	return nil
}

// tick is the kernel's unit of processor time in /proc (USER_HZ).
const tick = 10 * time.Millisecond

// CPU is the processor time that the program and its children have used, to 10 ms.
func (p *Process) CPU() (time.Duration, error) {
	var sum time.Duration
	err := p.each(func(pid int) error {
		fields, err := stat(pid)
		if err != nil {
			return err
		}
		for _, at := range []int{11, 12} { // utime and stime, counted from the state
			n, err := strconv.ParseInt(fields[at], 10, 64)
			if err != nil {
				return err
			}
			sum += time.Duration(n) * tick
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", p.Name, err)
	}
	return sum, nil
}

// Resident is the memory that the program and its children hold, in bytes.
func (p *Process) Resident() (int64, error) {
	var sum int64
	err := p.each(func(pid int) error {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return err
		}
		fields := strings.Fields(string(raw))
		if len(fields) < 2 {
			return fmt.Errorf("statm of %d: too short", pid)
		}
		pages, err := strconv.ParseInt(fields[1], 10, 64)
		sum += pages * int64(os.Getpagesize())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", p.Name, err)
	}
	return sum, nil
}

// each visits the program and its children.
func (p *Process) each(do func(pid int) error) error {
	pid := p.cmd.Process.Pid
	if err := do(pid); err != nil {
		return err
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return err
	}
	for _, field := range strings.Fields(string(raw)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if err := do(child); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// stat gives the fields of /proc/PID/stat from the state on; the name before them may hold spaces.
func stat(pid int) ([]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(raw, ')')
	fields := strings.Fields(string(raw[end+1:]))
	if end < 0 || len(fields) < 13 {
		return nil, fmt.Errorf("stat of %d: not understood", pid)
	}
	return fields, nil
}
