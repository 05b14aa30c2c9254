package capture

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func interaction(n int) lifecycle.Interaction {
	return lifecycle.Interaction{
		ID: fmt.Sprintf("i%04d", n), Service: "docs", Conversation: fmt.Sprintf("c%d", n/2), Turn: n % 2,
		Started: time.Unix(1_700_000_000+int64(n), 0).UTC(), Outcome: "ok", Endpoint: "chat", Status: 200,
	}
}

func open(t *testing.T, config SpoolConfig) *Spool {
	t.Helper()
	if config.Dir == "" {
		config.Dir = t.TempDir()
	}
	config.Log = slog.New(slog.DiscardHandler)
	s, err := OpenSpool(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// take counts a request and hands its record on, as a gateway does.
func take(s *Spool, i lifecycle.Interaction) {
	s.Arrived(i.Service)
	s.Interaction(i)
}

// drain reads everything that is not loaded yet and says that it is loaded.
func drain(t *testing.T, s *Spool, batch int) (ids []string) {
	t.Helper()
	for _, r := range drainRecords(t, s, batch) {
		if r.Interaction != nil {
			ids = append(ids, r.Interaction.ID)
		} else {
			ids = append(ids, r.Feedback.ID)
		}
	}
	return ids
}

func drainRecords(t *testing.T, s *Spool, batch int) (all []record) {
	t.Helper()
	for {
		b, err := s.next(batch)
		require.NoError(t, err)
		all = append(all, b.records...)
		s.loaded(b)
		if len(b.records) == 0 && !b.moved {
			return all
		}
	}
}

func wanted(from, to int) (ids []string) {
	for n := from; n < to; n++ {
		ids = append(ids, interaction(n).ID)
	}
	return ids
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	require.NoError(t, err)
	return files
}

func TestWhatWasTakenIsReadInOrderAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, SpoolConfig{Dir: dir, Segment: 2000})
	for n := range 50 {
		take(s, interaction(n))
		if n%10 == 9 { // several batches, so that segments fill
			require.NoError(t, s.Feedback(t.Context(), lifecycle.Feedback{ID: fmt.Sprintf("f%d", n), Service: "docs", Interaction: "i", Kind: "thumbs-up"}))
		}
	}
	require.NoError(t, s.Close())
	require.Greater(t, len(segments(t, dir)), 1)

	again := open(t, SpoolConfig{Dir: dir})
	ids := drain(t, again, 7)
	require.Len(t, ids, 55)
	require.Equal(t, "i0000", ids[0])
	require.Equal(t, "f49", ids[54])
	require.Len(t, segments(t, dir), 1, "loaded segments are gone, but for the one being written")
	require.Zero(t, again.Losses())
	require.Empty(t, drain(t, again, 7))
}

func TestATornTailIsCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, SpoolConfig{Dir: dir})
	for n := range 10 {
		take(s, interaction(n))
	}
	require.NoError(t, s.Close())
	path := segments(t, dir)[0]
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content[:len(content)-5], 0o600))

	again := open(t, SpoolConfig{Dir: dir})
	require.Positive(t, again.Losses().Damaged)
	require.Equal(t, wanted(0, 9), drain(t, again, 100))
}

func TestADamagedRecordIsSkippedAndTheRestIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, SpoolConfig{Dir: dir})
	for n := range 10 {
		take(s, interaction(n))
	}
	require.NoError(t, s.Close())
	path := segments(t, dir)[0]
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	_, end, _ := nextFrame(content)
	for _, at := range []int{0, 5, 9, frameHeader + 3} { // magic, length, checksum, payload of the second record
		damaged := append([]byte(nil), content...)
		damaged[end+at] ^= 0x40
		other := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(other, filepath.Base(path)), damaged, 0o600))
		again := open(t, SpoolConfig{Dir: other})
		require.Equal(t, append(wanted(0, 1), wanted(2, 10)...), drain(t, again, 3), "byte %d", at)
		require.Positive(t, again.Losses().Damaged)
	}
}

func TestFeedbackIsCheckedAndAnswersWhenKept(t *testing.T) {
	t.Parallel()
	s := open(t, SpoolConfig{Flush: time.Hour}) // who waits for an answer does not wait for others
	good := lifecycle.Feedback{ID: "f", Service: "docs", Interaction: "i", Kind: "correction"}
	require.NoError(t, s.Feedback(t.Context(), good))
	bad := good
	bad.Kind = "applause"
	require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(s.Feedback(t.Context(), bad)))
	bad = good
	bad.Interaction = ""
	require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(s.Feedback(t.Context(), bad)))
	require.NoError(t, s.Close())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.Equal(t, lifecycle.Unavailable, lifecycle.KindOf(s.Feedback(ctx, good)))
	take(s, interaction(1))
	require.Equal(t, Account{Requests: 1, Dropped: 1}, s.Accounts()["docs"])
}

func TestASpoolHasOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, SpoolConfig{Dir: dir})
	_, err := OpenSpool(SpoolConfig{Dir: dir})
	require.Equal(t, lifecycle.Busy, lifecycle.KindOf(err))
	_, err = OpenSpool(SpoolConfig{})
	require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(err))
}

// Whatever stands in a segment: reading ends, gives only whole frames, and never invents one.
func FuzzFrames(f *testing.F) {
	whole := appendFrame(appendFrame(nil, []byte("one")), []byte(`{"i":{}}`))
	f.Add(whole, []byte("payload"))
	f.Add(whole[:len(whole)-3], []byte{})
	f.Add(magic, magic)
	f.Fuzz(func(t *testing.T, before, payload []byte) {
		end := wholeFrames(before)
		require.LessOrEqual(t, end, len(before))
		require.Equal(t, end, wholeFrames(before[:end]))
		content := appendFrame(append([]byte(nil), before[:end]...), payload)
		require.Equal(t, len(content), wholeFrames(content), "a frame behind whole frames is whole")
		var last []byte
		for rest := content; ; {
			got, end, _ := nextFrame(rest)
			if end == 0 {
				break
			}
			last, rest = got, rest[end:]
		}
		require.Equal(t, string(payload), string(last))
	})
}
