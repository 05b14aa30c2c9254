package capture

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/refitml/refit/internal/lifecycle"
)

// Names of the environment by which TestSpoolProcess is told to write.
const (
	envDir      = "REFIT_TEST_SPOOL"
	envFeedback = "REFIT_TEST_SPOOL_FEEDBACK" // write feedback, too, all the time
)

// TestSpoolProcess is no test: it is the process whose volume loses power. It says what it wrote, and when.
func TestSpoolProcess(t *testing.T) {
	dir := os.Getenv(envDir)
	if dir == "" {
		t.Skip("only as another test's process")
	}
	s, err := OpenSpool(SpoolConfig{Dir: dir, Segment: 64 << 10, Wait: time.Minute, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	var mu sync.Mutex
	say := func(what, id string, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, id, at.UnixNano())
	}
	for writer := range 4 {
		go func() {
			paced := time.NewTicker(2 * time.Millisecond)
			for n := 0; ; n++ {
				<-paced.C
				i := interaction(n)
				i.ID = fmt.Sprintf("i-%d-%d", writer, n)
				i.Input, i.Output = strings.Repeat("a question ", 20), strings.Repeat("an answer ", 40)
				take(s, i)
				say("wrote", i.ID, time.Now())
			}
		}()
	}
	for n := 0; os.Getenv(envFeedback) != ""; n++ {
		f := lifecycle.Feedback{ID: fmt.Sprintf("f-%d", n), Service: "docs", Interaction: "i-0-0", Kind: "thumbs-up"}
		began := time.Now()
		if s.Feedback(context.Background(), f) == nil {
			say("acknowledged", f.ID, time.Now())
			say("synced", f.ID, began)
		}
	}
	select {} // until it is killed
}

// volume is a file system of its own on a loop device.
type volume struct{ image, dir string }

func newVolume(t *testing.T) *volume {
	t.Helper()
	v := &volume{image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	require.NoError(t, os.WriteFile(v.image, nil, 0o600))
	require.NoError(t, os.Truncate(v.image, 48<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", v.image).CombinedOutput(); err != nil {
		t.Skipf("no file system can be made here: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", v.image, v.dir).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", v.dir).Run() })
	return v
}

// cut ends the file system as it stands on its device: what is in memory only, data and journal, never reaches it.
func (v *volume) cut(t *testing.T) {
	t.Helper()
	const ext4Shutdown, noLogFlush = 0x8004587d, 2
	dir, err := os.Open(v.dir)
	require.NoError(t, err)
	defer dir.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, noLogFlush))
}

// again mounts it as after a power cut: the journal is played back.
func (v *volume) again(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return exec.Command("umount", v.dir).Run() == nil }, time.Minute, 10*time.Millisecond)
	out, err := exec.Command("mount", "-o", "loop", v.image, v.dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// said is a line of the process.
type said struct {
	what, id string
	at       time.Time
}

func listen(out io.Reader, began chan<- struct{}) (all []said) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var s said
		var nanos int64
		if n, _ := fmt.Sscan(lines.Text(), &s.what, &s.id, &nanos); n < 3 {
			continue
		}
		s.at = time.Unix(0, nanos)
		if all = append(all, s); len(all) == 200 {
			close(began)
		}
	}
	return all
}

// The volume under a spool that is written to loses its power at random moments. What was written before a sync that
// somebody waited for is there; of the rest at most the last moments are lost. Nothing is there that was never said.
//
// It is not parallel: between fork and exec a new process holds the locks of the spools that other tests close.
func TestAPowerCutLosesTheLastMomentsOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cutting a file system's power needs root")
	}
	rounds := 6
	if os.Getenv("REFIT_LONG") != "" {
		rounds = 60
	}
	random := rand.New(rand.NewPCG(11, 1))
	var lost []time.Duration
	for round := range rounds {
		window, written := powerCut(t, round%2 == 0, time.Duration(random.IntN(400))*time.Millisecond)
		t.Logf("round %d: %d records written, the oldest that was lost was written %v before the cut", round, written, window)
		lost = append(lost, window)
	}
	slices.Sort(lost)
	t.Logf("lost: median %v, at most %v", lost[len(lost)/2], lost[len(lost)-1])
	require.Less(t, lost[len(lost)-1], 10*time.Second, "nothing is ever synced by itself")
}

// powerCut gives how long before the cut the oldest record was written that is lost, and how many were written.
func powerCut(t *testing.T, feedback bool, after time.Duration) (window time.Duration, written int) {
	t.Helper()
	v := newVolume(t)
	process := exec.Command(os.Args[0], "-test.run=^TestSpoolProcess$", "-test.v")
	process.Env = append(os.Environ(), envDir+"="+filepath.Join(v.dir, "spool"))
	if feedback {
		process.Env = append(process.Env, envFeedback+"=1")
	}
	out, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	began, ended := make(chan struct{}), make(chan []said, 1)
	go func() { ended <- listen(out, began) }()
	<-began
	timer := time.NewTimer(after)
	<-timer.C
	cut := time.Now()
	v.cut(t)
	require.NoError(t, process.Process.Signal(syscall.SIGKILL))
	all := <-ended
	_ = process.Wait() // it was killed
	v.again(t)

	s, err := OpenSpool(SpoolConfig{Dir: filepath.Join(v.dir, "spool"), Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	there := map[string]bool{}
	for _, id := range drain(t, s, 500) {
		require.False(t, there[id], "%s is there twice", id)
		there[id] = true
	}
	require.NoError(t, s.Close())

	acknowledged := map[string]bool{} // before the cut: after it no power would be left to say so, and the kernel may err
	for _, w := range all {
		if w.what == "acknowledged" && w.at.Before(cut) {
			acknowledged[w.id] = true
		}
	}
	var synced time.Time // what was written before is on the volume
	for _, w := range all {
		if w.what == "synced" && acknowledged[w.id] {
			require.True(t, there[w.id], "%s was acknowledged as synced", w.id)
			synced = w.at
		}
	}
	for _, w := range all {
		if w.what != "wrote" || w.at.After(cut) {
			continue
		}
		written++
		if !there[w.id] {
			require.False(t, w.at.Before(synced), "%s was written before a sync that ended", w.id)
			window = max(window, cut.Sub(w.at))
		}
	}
	return window, written
}
