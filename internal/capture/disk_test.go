package capture

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// disk is a file system that fails as it is told.
type disk struct {
	mu    sync.Mutex
	free  int64         // bytes that are left; negative: any
	fail  error         // of every write
	sync  error         // of every sync
	hang  chan struct{} // writes wait until it is closed; nil: they do not
	syncs int
}

type diskFile struct {
	*os.File
	d *disk
}

func (d *disk) create(path string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return nil, d.fail
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	return diskFile{f, d}, err
}

// Write writes what there is room for, as a full file system does.
func (f diskFile) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	hang := f.d.hang
	f.d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.fail != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, f.d.fail
	}
	if f.d.free >= 0 && f.d.free < int64(len(p)) {
		n, _ := f.File.Write(p[:f.d.free])
		f.d.free = 0
		return n, syscall.ENOSPC
	}
	if f.d.free >= 0 {
		f.d.free -= int64(len(p))
	}
	return f.File.Write(p)
}

func (f diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.syncs++
	if _, err := f.File.Stat(); err != nil { // it is closed already
		return err
	}
	return f.d.sync
}

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func openOn(t *testing.T, d *disk, config SpoolConfig) *Spool {
	t.Helper()
	if config.Dir == "" {
		config.Dir = t.TempDir()
	}
	config.Log = slog.New(slog.DiscardHandler)
	setDefault(&config.Retry, 5*time.Millisecond)
	s, err := openSpool(config, d.create)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func saying(n int, size int) lifecycle.Interaction {
	i := interaction(n)
	i.Content, i.Input, i.Output = lifecycle.ContentFull, strings.Repeat("q", size/2), strings.Repeat("a", size-size/2)
	return i
}

// holds checks that every request is where the account says.
func holds(t require.TestingT, a Account) {
	require.Equal(t, a.Requests, a.InFlight+a.Shed+a.Waiting+a.Captured+a.Dropped, "%+v", a)
}

func TestARecordIsWrittenWhenItsAnswerMayEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, SpoolConfig{Dir: dir, Flush: time.Hour, Wait: time.Minute})
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			take(s, saying(n, 100))
			// Another process, or this one after its death, finds it now: nothing is buffered.
			content := ""
			for _, path := range segments(t, dir) {
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Error(err)
				}
				content += string(raw)
			}
			if !strings.Contains(content, `"`+interaction(n).ID+`"`) {
				t.Errorf("record %d is not in its file", n)
			}
		})
	}
	wg.Wait()
	require.Equal(t, Account{Requests: 200, Captured: 200}, s.Accounts()["docs"])
}

func TestWithoutADiskRecordsWaitInMemoryAndAnswersEnd(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]error{"read-only": syscall.EROFS, "broken": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &disk{free: -1}
			s := openOn(t, d, SpoolConfig{})
			take(s, interaction(0))
			d.set(func(d *disk) { d.fail = fault })
			for n := 1; n < 50; n++ {
				take(s, saying(n, 10))
			}
			require.False(t, s.Writable())
			require.Equal(t, Account{Requests: 50, Captured: 1, Waiting: 49}, s.Accounts()["docs"])
			require.EqualValues(t, 49, s.Losses().Late)
			err := s.Feedback(t.Context(), lifecycle.Feedback{ID: "f", Service: "docs", Interaction: "i", Kind: "thumbs-up"})
			require.ErrorIs(t, err, fault, "what is acknowledged is synced")

			require.Equal(t, wanted(0, 50), drain(t, s, 7), "a loader takes what waits past the disk")
			d.set(func(d *disk) { d.fail = nil })
			require.Eventually(t, func() bool { return s.Accounts()["docs"].Captured == 50 }, 10*time.Second, time.Millisecond)
			take(s, saying(50, 10))
			again := drain(t, s, 7)
			require.Equal(t, wanted(50, 51), again[len(again)-1:])
			// A write that was under way while its records were loaded brings them once more; the store takes each once.
			require.Subset(t, wanted(0, 51), again)
			require.Len(t, again, len(slices.Compact(slices.Clone(again))))
			require.Eventually(t, s.Writable, 10*time.Second, time.Millisecond)
			require.Zero(t, s.Losses().Records)
		})
	}
}

func TestAfterAnOutageOfTheDiskWhatWaitedIsWritten(t *testing.T) {
	t.Parallel()
	dir, d := t.TempDir(), &disk{free: -1, fail: syscall.EROFS}
	s := openOn(t, d, SpoolConfig{Dir: dir}) // a disk that takes nothing is no reason not to start
	for n := range 20 {
		take(s, saying(n, 10))
	}
	d.set(func(d *disk) { d.fail = nil })
	require.Eventually(t, func() bool { return s.Accounts()["docs"].Captured == 20 }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.Close())
	again := open(t, SpoolConfig{Dir: dir})
	require.Equal(t, wanted(0, 20), drain(t, again, 100))
	require.Zero(t, again.Losses().Damaged, "what was written in part was cut off")
}

func TestMemoryIsBoundedAndPayloadsGoFirst(t *testing.T) {
	t.Parallel()
	d := &disk{free: -1, fail: syscall.EROFS}
	s := openOn(t, d, SpoolConfig{Memory: 20_000, Retry: time.Hour})
	for n := range 10 {
		take(s, saying(n, 4000))
		holds(t, s.Accounts()["docs"])
	}
	require.Zero(t, s.Losses().Records)
	require.Greater(t, s.Losses().Payloads, int64(5))
	records := drainRecords(t, s, 100)
	require.Empty(t, records[0].Interaction.Input, "the oldest are given up first")
	require.Equal(t, lifecycle.ContentDropped, records[0].Interaction.Content)
	require.NotEmpty(t, records[9].Interaction.Input)
	for n := range 200 { // nobody loads, and nothing can be written
		take(s, interaction(100+n))
	}
	a := s.Accounts()["docs"]
	holds(t, a)
	require.Positive(t, a.Dropped)
	require.Equal(t, a.Dropped, s.Losses().Records)
}

func TestAFullDiskGivesUpTheOldestPayloadsFirst(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config SpoolConfig
		free   int64
	}{
		"its own bound":   {SpoolConfig{Segment: 10_000, Disk: 60_000}, -1},
		"the file system": {SpoolConfig{Segment: 10_000}, 60_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &disk{free: tc.free}
			dir := t.TempDir()
			tc.config.Dir = dir
			s := openOn(t, d, tc.config)
			given := func() (bytes int64) { // what was given up makes room, as unlinking does
				return s.Losses().Payloads * 2000
			}
			refunded := int64(0)
			for n := range 60 {
				if tc.free >= 0 && given() > refunded {
					d.set(func(d *disk) { d.free += given() - refunded })
					refunded = given()
				}
				take(s, saying(n, 2000))
				holds(t, s.Accounts()["docs"])
			}
			if tc.free < 0 {
				require.Equal(t, Account{Requests: 60, Captured: 60}, s.Accounts()["docs"], "no record is lost while payloads can be")
			}
			require.Zero(t, s.Losses().Records)
			require.Greater(t, s.Losses().Payloads, int64(20))
			var used int64
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			for _, f := range files {
				info, err := f.Info()
				require.NoError(t, err)
				used += info.Size()
			}
			require.LessOrEqual(t, used, int64(61_000))

			d.set(func(d *disk) { d.free = -1 })
			require.Eventually(t, func() bool { return s.Accounts()["docs"].Captured == 60 }, 10*time.Second, time.Millisecond)
			records := drainRecords(t, s, 7)
			require.Len(t, records, 60)
			kept := 0
			for i, r := range records {
				require.Equal(t, interaction(i).ID, r.Interaction.ID)
				if r.Interaction.Input != "" {
					require.Equal(t, saying(i, 2000).Output, r.Interaction.Output)
					require.Equal(t, lifecycle.ContentFull, r.Interaction.Content)
					kept++
					continue
				}
				require.Equal(t, lifecycle.ContentDropped, r.Interaction.Content, "the row says why it has no text")
			}
			require.Empty(t, records[0].Interaction.Input)
			require.EqualValues(t, 60-kept, s.Losses().Payloads, "each payload is there or counted")
			require.Zero(t, s.Losses().Damaged)
		})
	}
}

func TestASlowDiskHoldsNoAnswerUpForLong(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	d := &disk{free: -1, hang: hang}
	s := openOn(t, d, SpoolConfig{Wait: 10 * time.Millisecond})
	for n := range 20 {
		take(s, interaction(n)) // the first waits for a bounded time, the others not at all
	}
	require.False(t, s.Writable())
	require.Equal(t, Account{Requests: 20, Waiting: 20}, s.Accounts()["docs"])
	require.EqualValues(t, 20, s.Losses().Late)
	d.set(func(d *disk) { d.hang = nil })
	close(hang)
	require.Eventually(t, func() bool { return s.Accounts()["docs"].Captured == 20 }, 10*time.Second, time.Millisecond)
	take(s, interaction(20))
	require.True(t, s.Writable())
	require.EqualValues(t, 20, s.Losses().Late)
}

func TestWhatIsWrittenIsSyncedInGroups(t *testing.T) {
	t.Parallel()
	d := &disk{free: -1}
	s := openOn(t, d, SpoolConfig{Flush: time.Millisecond, Segment: 2000})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 50 {
				take(s, interaction(w*50+n))
			}
		})
	}
	wg.Wait()
	unsynced := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.unsynced)
	}
	require.Eventually(t, func() bool { return unsynced() == 0 }, 10*time.Second, time.Millisecond, "a sync follows without another write")
	require.Zero(t, s.Losses().Unsynced, "a file was closed before it was synced")
	d.set(func(d *disk) {
		require.Positive(t, d.syncs)
		d.sync = errors.New("the device is gone")
	})
	err := s.Feedback(t.Context(), lifecycle.Feedback{ID: "f", Service: "docs", Interaction: "i", Kind: "thumbs-up"})
	require.Equal(t, lifecycle.Unavailable, lifecycle.KindOf(err))
	require.Positive(t, s.Losses().Unsynced)
}

// A system says once that it could not write a file. Whoever waits for what stands in that file hears of it, also when
// that sync was not theirs.
func TestAFailedSyncIsNotForgotten(t *testing.T) {
	t.Parallel()
	d := &disk{free: -1}
	s := openOn(t, d, SpoolConfig{Flush: time.Hour})
	take(s, interaction(1))
	s.mu.Lock()
	file := s.active.records
	s.mu.Unlock()
	d.set(func(d *disk) { d.sync = errors.New("input/output error") })
	s.syncAll()
	d.set(func(d *disk) { d.sync = nil })
	told := make(chan error, 1)
	s.mu.Lock()
	s.awaiting = append(s.awaiting, awaited{told, file})
	s.mu.Unlock()
	s.syncAll()
	require.ErrorContains(t, <-told, "input/output error")
	require.NoError(t, s.Feedback(t.Context(), lifecycle.Feedback{ID: "f", Service: "docs", Interaction: "i", Kind: "thumbs-up"}),
		"what comes next goes to another file")
}

// However full the disk is and whoever asks, every request is in exactly one place.
func TestAccountsHoldAtEveryMoment(t *testing.T) {
	t.Parallel()
	d := &disk{free: -1}
	s := openOn(t, d, SpoolConfig{Segment: 20_000, Disk: 200_000, Memory: 60_000, Wait: 2 * time.Millisecond})
	stop := make(chan struct{})
	var clients, others sync.WaitGroup
	others.Go(func() { // the disk comes and goes
		for n := 0; ; n++ {
			d.set(func(d *disk) {
				d.fail = []error{nil, syscall.ENOSPC, nil, syscall.EROFS}[n%4]
			})
			select {
			case <-stop:
				d.set(func(d *disk) { d.fail = nil })
				return
			case <-time.After(3 * time.Millisecond):
			}
		}
	})
	loads := 0
	others.Go(func() { // and so does the database
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			b, err := s.next(50)
			if err != nil {
				t.Error(err)
				return
			}
			if loads++; loads%3 > 0 {
				s.loaded(b)
			}
		}
	})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				for _, a := range s.Accounts() {
					holds(t, a)
				}
			}
		}
	})
	for w := range 4 {
		clients.Go(func() {
			for n := range 300 {
				if n%10 == 9 {
					s.Arrived("docs")
					s.Shed("docs")
					continue
				}
				take(s, saying(w*1000+n, 300))
			}
		})
	}
	clients.Wait()
	close(stop)
	others.Wait()
	a := s.Accounts()["docs"]
	holds(t, a)
	require.EqualValues(t, 1200, a.Requests)
	require.EqualValues(t, 120, a.Shed)
	require.Zero(t, a.InFlight)
}

// A real file system that is full, and then read-only.
func TestOnARealFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("SKIPPED: no file system of one megabyte can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := open(t, SpoolConfig{Dir: dir, Segment: 64 << 10, Retry: 5 * time.Millisecond})
	for n := range 400 { // 1.6 MB of payloads and 0.2 MB of records
		take(s, saying(n, 4000))
		holds(t, s.Accounts()["docs"])
	}
	require.Equal(t, Account{Requests: 400, Captured: 400}, s.Accounts()["docs"])
	require.Greater(t, s.Losses().Payloads, int64(100))
	filler, err := os.Create(filepath.Join(dir, "filler")) // somebody else takes all that is left
	require.NoError(t, err)
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	for n := 400; n < 1400; n++ {
		take(s, saying(n, 4000))
		holds(t, s.Accounts()["docs"])
	}
	require.NoError(t, filler.Close())
	require.Zero(t, s.Losses().Records, "records fit, on disk or in memory")
	require.NoError(t, os.Remove(filler.Name()))
	require.Eventually(t, func() bool { return s.Accounts()["docs"].Captured == 1400 }, 10*time.Second, time.Millisecond)
	seen := map[string]bool{}
	withText := int64(0)
	for _, r := range drainRecords(t, s, 100) {
		require.False(t, seen[r.Interaction.ID])
		seen[r.Interaction.ID] = true
		if r.Interaction.Input != "" {
			withText++
		}
	}
	require.Len(t, seen, 1400)
	require.Equal(t, 1400-withText, s.Losses().Payloads)

	require.Eventually(t, func() bool { // once nothing is open for writing
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.unsynced) == 0
	}, 10*time.Second, time.Millisecond)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=1m"); err == nil {
		t.Log("the disk is read-only now")
		for n := 1400; n < 1500; n++ {
			take(s, interaction(n))
		}
		holds(t, s.Accounts()["docs"])
		require.Len(t, drain(t, s, 1000), 100, fmt.Sprint("read-only: ", s.Accounts()))
	}
}
