package layout

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

// occupied listens on a port until the test ends.
func occupied(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func newFolder(t *testing.T) Folder {
	t.Helper()
	f := Folder(filepath.Join(t.TempDir(), "data"))
	require.NoError(t, f.Make())
	return f
}

func TestChooseFolder(t *testing.T) {
	t.Parallel()
	checkout := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(checkout, "go.mod"), []byte("module github.com/refitml/refit\n"), 0o600))
	inner := filepath.Join(checkout, "devstack")
	require.NoError(t, os.Mkdir(inner, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(inner, "go.mod"), []byte("module github.com/refitml/refit/devstack\n"), 0o600))

	f, err := Choose("", inner, env(nil), 1000)
	require.NoError(t, err)
	require.Equal(t, Folder(filepath.Join(checkout, ".refit")), f)
	f, err = Choose("", inner, env(nil), 0)
	require.NoError(t, err)
	require.Regexp(t, `^/var/lib/refit/[0-9a-f]{12}$`, string(f))
	f, err = Choose("", inner, env(map[string]string{"REFIT_DATA": "/elsewhere"}), 0)
	require.NoError(t, err)
	require.Equal(t, Folder("/elsewhere"), f)
	f, err = Choose("/given", inner, env(map[string]string{"REFIT_DATA": "/elsewhere"}), 0)
	require.NoError(t, err)
	require.Equal(t, Folder("/given"), f)
	_, err = Choose("", "/", env(nil), 0)
	require.ErrorContains(t, err, "no checkout")
}

func TestAFolderOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := Folder(t.TempDir())
	require.NoError(t, os.WriteFile(f.Path("thesis.tex"), nil, 0o600))
	require.ErrorContains(t, f.Make(), "did not make")
	require.ErrorContains(t, f.Remove(), "left alone")
	require.FileExists(t, f.Path("thesis.tex"))
	require.NoError(t, Folder(f.Path("missing")).Remove())
}

func TestLock(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	pid, err := f.Holder()
	require.NoError(t, err)
	require.Zero(t, pid)
	lock, err := f.Lock()
	require.NoError(t, err)
	pid, err = f.Holder()
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), pid)
	_, err = f.Lock()
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, lock.Close())
	pid, err = f.Holder()
	require.NoError(t, err)
	require.Zero(t, pid, "the file's text outlives its holder, the lock does not")
}

func TestPortsStayAndAreAllDifferent(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	first, err := ChoosePorts(f, env(nil), true, 0)
	require.NoError(t, err)
	seen := map[int]bool{}
	for _, p := range first.all() {
		require.NotZero(t, *p.value, p.name)
		require.False(t, seen[*p.value], p.name)
		seen[*p.value] = true
	}
	again, err := ChoosePorts(f, env(nil), false, 0)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestEveryBusyPortIsNamedWithItsSetting(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	ui, s3 := occupied(t), occupied(t)
	_, err := ChoosePorts(f, env(map[string]string{
		"REFIT_TEMPORAL_UI_PORT": strconv.Itoa(ui), "REFIT_S3_PORT": strconv.Itoa(s3), "REFIT_POSTGRES_PORT": "many",
	}), true, 0)
	require.ErrorContains(t, err, "port "+strconv.Itoa(ui)+" (the Temporal UI) is busy; set REFIT_TEMPORAL_UI_PORT")
	require.ErrorContains(t, err, "port "+strconv.Itoa(s3)+" (S3) is busy; set REFIT_S3_PORT")
	require.ErrorContains(t, err, `REFIT_POSTGRES_PORT is "many"`)
	require.NoFileExists(t, f.Path("ports.json"))
}

func TestOnePortForTwoIsRefused(t *testing.T) {
	t.Parallel()
	_, err := ChoosePorts(newFolder(t), env(map[string]string{"REFIT_TEMPORAL_PORT": "29999", "REFIT_S3_PORT": "29999"}), true, 0)
	require.ErrorContains(t, err, "asked for twice")
}

func TestAnAdoptedPostmasterKeepsItsPort(t *testing.T) {
	t.Parallel()
	ours := occupied(t)
	ports, err := ChoosePorts(newFolder(t), env(nil), true, ours)
	require.NoError(t, err)
	require.Equal(t, ours, ports.Postgres)
}

func TestARememberedPortThatIsBusy(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	busy := occupied(t)
	require.NoError(t, writeJSON(f.Path("ports.json"), Ports{Postgres: 20001, Temporal: 20002, TemporalUI: 20003, S3: busy, History: busy}))
	_, err := ChoosePorts(f, env(nil), false, 0)
	require.ErrorContains(t, err, "REFIT_S3_PORT")
	ports, err := ChoosePorts(f, env(nil), true, 0)
	require.NoError(t, err)
	require.NotEqual(t, busy, ports.S3)
	require.NotEqual(t, busy, ports.History)
}

func TestSecretsAreMadeOnce(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	first, err := f.LoadSecrets()
	require.NoError(t, err)
	require.NotEqual(t, first.Owner, first.App)
	again, err := f.LoadSecrets()
	require.NoError(t, err)
	require.Equal(t, first, again)
	info, err := os.Stat(f.Path("secrets.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, os.WriteFile(f.Path("secrets.json"), []byte("{"), 0o600))
	_, err = f.LoadSecrets()
	require.Error(t, err, "unreadable secrets must not be replaced: the cluster knows the old ones")
}
