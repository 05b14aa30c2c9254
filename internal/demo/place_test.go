package demo

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestABusyPortIsNamedWithItsSetting(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	p := place{settings: Settings{Gateway: taken.Addr().String(), Control: "127.0.0.1:0"}}
	err = p.checkPorts()
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable))
	require.ErrorContains(t, err, taken.Addr().String())
	require.ErrorContains(t, err, "REFIT_GATEWAY_LISTEN")
	require.NotContains(t, err.Error(), "REFIT_CONTROL_LISTEN")
}

// sleeper runs a program that waits, under the name that `refit up` has in a folder of commands.
func sleeper(t *testing.T) (up, *exec.Cmd) {
	t.Helper()
	bin, data := t.TempDir(), t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(data, "demo"), 0o755))
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	program, err := os.ReadFile(sleep)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "refit"), program, 0o755))
	u := upOf(data, bin)
	var command *exec.Cmd
	require.Eventually(t, func() bool { // a child that was just forked elsewhere may still hold the file that was written
		command = exec.Command(u.program, "600")
		return command.Start() == nil
	}, 30*time.Second, 10*time.Millisecond)
	t.Cleanup(func() { _ = command.Process.Kill() })
	go func() { _ = command.Wait() }()
	u.told = "REFIT_DATA=" + data
	require.NoError(t, u.write(command.Process.Pid))
	return u, command
}

func TestOnlyOurOwnProcessIsTakenForOurs(t *testing.T) {
	t.Parallel()
	u, command := sleeper(t)
	require.Equal(t, command.Process.Pid, u.pid())
	require.NoError(t, os.WriteFile(u.file(), []byte(strconv.Itoa(os.Getpid())), 0o644))
	require.Zero(t, u.pid(), "the number has gone to another program")
	require.NoError(t, os.WriteFile(u.file(), []byte("-1"), 0o644))
	require.Zero(t, u.pid())
	require.NoError(t, os.Remove(u.file()))
	require.NoError(t, u.stop(t.Context()), "nothing to stop is no fault")
}

func TestStopEndsTheProcess(t *testing.T) {
	t.Parallel()
	u, _ := sleeper(t)
	require.NoError(t, u.stop(t.Context()))
	require.False(t, u.alive())
}

func TestAProgramThatWasBuiltAnewIsStale(t *testing.T) {
	t.Parallel()
	u, _ := sleeper(t)
	now := time.Now()
	require.NoError(t, os.Chtimes(u.program, now, now.Add(-time.Hour)))
	require.False(t, u.stale())
	require.NoError(t, os.Chtimes(u.program, now, now.Add(time.Hour)))
	require.True(t, u.stale())
}

func TestAProcessWithOtherSettingsIsStale(t *testing.T) {
	t.Parallel()
	u, _ := sleeper(t)
	now := time.Now()
	require.NoError(t, os.Chtimes(u.program, now, now.Add(-time.Hour)))
	require.False(t, u.stale())
	u.told += "\nREFIT_WORKER_DATA_ROOTS=/srv/notes"
	require.True(t, u.stale())
}
