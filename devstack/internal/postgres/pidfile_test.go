package postgres

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const whole = "4711\n/var/lib/refit/x/postgres\n1700000000\n15432\n\n127.0.0.1\n  1234567    98305\nready   \n"

func TestParsePIDFile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want pidFile
		err  string
	}{
		"ready":              {text: whole, want: pidFile{PID: 4711, Dir: "/var/lib/refit/x/postgres", Port: 15432, Ready: true}},
		"starting":           {text: whole[:len(whole)-9] + "starting\n", want: pidFile{PID: 4711, Dir: "/var/lib/refit/x/postgres", Port: 15432}},
		"port not known yet": {text: "4711\n/x\n1700000000\n", want: pidFile{PID: 4711, Dir: "/x"}},
		"empty":              {err: "1 lines"},
		"no process":         {text: "-3\n/x\n", err: "process ID"},
		"torn":               {text: "4711\n/x\n1\n99999\n", err: "as port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parsePIDFile([]byte(tc.text))
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func FuzzParsePIDFile(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("1\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := parsePIDFile(raw)
		if err == nil && (file.PID < 1 || file.Port < 0 || file.Port > 65535) {
			t.Fatalf("accepted %+v", file)
		}
	})
}

func TestAPIDThatWasGivenToAStrangerIsNoPostmaster(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Process 1 lives, but does not work in dir.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte("1\n"+dir+"\n1\n15432\n\n127.0.0.1\n1 1\nready\n"), 0o600))
	require.Zero(t, Running(dir))
	require.Zero(t, Running(t.TempDir()))
}

func TestReachableNamesTheFolderThatIsClosed(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	require.NoError(t, os.MkdirAll(filepath.Join(closed, "in"), 0o700))
	require.ErrorContains(t, reachable(filepath.Join(closed, "in")), "closed")
	require.NoError(t, reachable("/usr"))
}
