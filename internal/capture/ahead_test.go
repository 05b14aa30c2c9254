package capture

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// A loader that keeps up reads nothing: what it gets is what was handed over, and what the disk holds.
func TestWhatIsInMemoryIsNotReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, SpoolConfig{Dir: dir})
	for n := range 20 {
		take(s, saying(n, 100))
	}
	for _, path := range segments(t, dir) {
		require.NoError(t, os.Truncate(path, 0), "nobody needs it any more")
	}
	records := drainRecords(t, s, 7)
	require.Len(t, records, 20)
	for n, r := range records {
		require.Equal(t, saying(n, 100), *r.Interaction)
	}
	require.Zero(t, s.Losses())
	require.Zero(t, s.ahead.size)
}

// However much stays in memory, however fast a loader is and whenever it fails, it gets every record once, in order and
// whole, or without texts that were given up and counted.
func TestMemoryAndDiskTogetherAreTheSpool(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		config := SpoolConfig{
			Dir: fmt.Sprintf("%s/%d", root, runs), Log: slog.New(slog.DiscardHandler), Segment: 6000,
			Ahead: rapid.SampledFrom([]int64{-1, 3000, 12_000, 1 << 20}).Draw(t, "ahead"),
			Disk:  rapid.SampledFrom([]int64{0, 30_000}).Draw(t, "disk"),
		}
		s, err := OpenSpool(config)
		require.NoError(t, err)
		var got []record
		load := func(limit int, keeps bool) int {
			b, err := s.next(limit)
			require.NoError(t, err)
			if keeps { // else PostgreSQL is gone, and the batch comes again
				got = append(got, slices.Clone(b.records)...)
				s.loaded(b)
			}
			return len(b.records)
		}
		wrote := 0
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			switch rapid.SampledFrom([]string{"write", "write", "load", "fail", "restart"}).Draw(t, "turn") {
			case "write":
				for range rapid.IntRange(1, 8).Draw(t, "records") {
					take(s, saying(wrote, rapid.SampledFrom([]int{0, 10, 2000}).Draw(t, "size")))
					wrote++
				}
			case "load":
				load(rapid.IntRange(1, 20).Draw(t, "limit"), true)
			case "fail":
				load(rapid.IntRange(1, 20).Draw(t, "limit"), false)
			case "restart":
				for load(100, true) > 0 { // what was loaded from a segment that is not deleted would come again
				}
				require.NoError(t, s.Close())
				require.Equal(t, int64(len(got)), int64(wrote))
				s, err = OpenSpool(config)
				require.NoError(t, err)
				for {
					b, err := s.next(100)
					require.NoError(t, err)
					s.loaded(b)
					if len(b.records) == 0 {
						break
					}
				}
			}
			require.LessOrEqual(t, s.ahead.size, max(config.Ahead, 0))
		}
		for load(7, true) > 0 {
		}
		require.NoError(t, s.Close())
		require.Len(t, got, wrote)
		for n, r := range got {
			require.Equal(t, interaction(n).ID, r.Interaction.ID)
			if r.Interaction.Content == lifecycle.ContentDropped {
				require.Empty(t, r.Interaction.Input+r.Interaction.Output)
				continue
			}
			require.Equal(t, saying(n, len(r.Interaction.Input)+len(r.Interaction.Output)), *r.Interaction)
		}
	})
}
