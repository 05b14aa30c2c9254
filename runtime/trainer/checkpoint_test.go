package trainer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/runtime/job"
)

func someState(step int) state {
	c := tinyConfig()
	s := state{loss: 1.0 / float64(step), params: initial(c, uint64(step)), first: initial(c, 77), second: initial(c, 78)}
	return s
}

func savedSteps(t *testing.T, steps ...int) checkpoints {
	t.Helper()
	c := checkpoints{dir: filepath.Join(t.TempDir(), "checkpoints"), config: tinyConfig(), fingerprint: "this run"}
	for _, step := range steps {
		require.NoError(t, c.save(step, someState(step)))
	}
	return c
}

func TestNoCheckpointIsStepZero(t *testing.T) {
	t.Parallel()
	step, s, err := savedSteps(t).newest()
	require.NoError(t, err)
	require.Zero(t, step)
	require.Zero(t, s)
}

func TestTheNewestCheckpointComesBackExactly(t *testing.T) {
	t.Parallel()
	c := savedSteps(t, 5, 10, 15, 1000)
	step, s, err := c.newest()
	require.NoError(t, err)
	require.Equal(t, 1000, step)
	require.Equal(t, someState(1000), s)
	files, err := c.list()
	require.NoError(t, err)
	require.Equal(t, []string{c.path(15), c.path(1000)}, files)
}

func TestADamagedCheckpointIsPassedOver(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(raw []byte) []byte{
		"cut":             func(raw []byte) []byte { return raw[:len(raw)-7] },
		"padded":          func(raw []byte) []byte { return append(raw, 0) },
		"empty":           func([]byte) []byte { return nil },
		"one bit of data": func(raw []byte) []byte { raw[len(raw)-3] ^= 1; return raw },
		"one bit early":   func(raw []byte) []byte { raw[len(raw)/2] ^= 0x40; return raw },
		"another digit":   func(raw []byte) []byte { return replaceOnce(raw, `"step":"10"`, `"step":"11"`) },
		"another run":     func(raw []byte) []byte { return replaceOnce(raw, "this run", "that run") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := savedSteps(t, 5, 10)
			change(t, c.path(10), damage)
			step, s, err := c.newest()
			require.NoError(t, err)
			require.Equal(t, 5, step)
			require.Equal(t, someState(5), s)

			change(t, c.path(5), damage)
			_, _, err = c.newest()
			if name == "another digit" { // only the newest has that one
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "no checkpoint can be read", "never silently from the start")
			require.NotErrorIs(t, err, job.ErrSpec)
		})
	}
}

func TestACheckpointOfAnotherRunIsRefused(t *testing.T) {
	t.Parallel()
	c := savedSteps(t, 5, 10)
	c.fingerprint = "another run"
	_, _, err := c.newest()
	require.ErrorIs(t, err, job.ErrSpec)
	require.ErrorContains(t, err, "belongs to another spec or other inputs")
}

func TestWhatAKilledRunWasWritingIsSwept(t *testing.T) {
	t.Parallel()
	c := savedSteps(t, 5)
	half := filepath.Join(c.dir, ".writing-123")
	require.NoError(t, os.WriteFile(half, []byte("half"), 0o600))
	step, _, err := c.newest()
	require.NoError(t, err)
	require.Equal(t, 5, step)
	require.NoFileExists(t, half)
}

func change(t *testing.T, path string, damage func([]byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, damage(raw), 0o600))
}

func replaceOnce(raw []byte, old, by string) []byte {
	s := string(raw)
	for i := range s {
		if i+len(old) <= len(s) && s[i:i+len(old)] == old {
			return []byte(s[:i] + by + s[i+len(old):])
		}
	}
	return raw
}
