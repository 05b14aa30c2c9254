package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	patience = 3 * time.Minute // for a condition to come true
	look     = 50 * time.Millisecond
)

// await waits until the condition holds. What it gives beside is printed where it never does.
func await(t *testing.T, what string, holds func() (bool, any)) {
	t.Helper()
	awaitWithin(t, patience, what, holds)
}

func awaitWithin(t *testing.T, limit time.Duration, what string, holds func() (bool, any)) {
	t.Helper()
	deadline := time.After(limit)
	again := time.NewTicker(look)
	defer again.Stop()
	for {
		ok, seen := holds()
		if ok {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			require.FailNow(t, "waited in vain for "+what, "last seen: %+v", seen)
		}
	}
}

// process is one of Refit's processes. It can be killed and started again as it was.
type process struct {
	t       *testing.T
	name    string
	command []string
	env     []string
	log     string // file

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the present one has ended
}

func newProcess(t *testing.T, dir, name string, env []string, command ...string) *process {
	p := &process{t: t, name: name, command: command, env: env, log: filepath.Join(dir, name+".log")}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("last lines of %s (%s):\n%s", name, strings.Join(command, " "), tail(p.log, 60))
		}
	})
	return p
}

// start starts it. It dies with the test program: whoever is killed leaves nothing behind.
func (p *process) start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(p.t, err)
	defer log.Close()
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = p.env, log, log, filepath.Dir(p.log)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(p.t, cmd.Start())
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() { defer close(done); _ = cmd.Wait() }()
}

// kill kills it as kill -9 does and waits until it is gone. One that is not running stays so.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(s) // it may have ended by itself
	<-done
}

// tail gives the last lines of a file.
func tail(path string, lines int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(raw, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// run runs a command to its end and gives what it printed and its exit code.
func run(ctx context.Context, env []string, command ...string) (stdout, stderr string, code int, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var out, diagnostics bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &diagnostics
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return out.String(), diagnostics.String(), exit.ExitCode(), nil
	}
	return out.String(), diagnostics.String(), 0, err
}

// processesOf lists the processes that have a variable in their environment whose value lies below a folder: jobs
// and model servers, which outlive whoever started them.
func processesOf(variable, dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue // it has ended, or is somebody else's
		}
		for _, line := range bytes.Split(environ, []byte{0}) {
			name, value, _ := strings.Cut(string(line), "=")
			if (variable == "" || name == variable) && strings.HasPrefix(value, dir+"/") {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// gone says whether a process has ended. One that nobody has waited for yet counts as ended.
func gone(pid int) bool {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// clearProcesses kills what a test's jobs and model servers left, by their mark in the environment.
func clearProcesses(t *testing.T, dir string) {
	t.Helper()
	for _, pid := range processesOf("", dir) {
		if pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	await(t, "the test's processes to be gone", func() (bool, any) {
		left := 0
		for _, pid := range processesOf("", dir) {
			if pid != os.Getpid() && !gone(pid) {
				left++
			}
		}
		return left == 0, left
	})
}
