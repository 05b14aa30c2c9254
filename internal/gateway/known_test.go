package gateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/capture"
)

// spooled is a spool whose marks are loaded when the test says so.
type spooled struct {
	captured
	mark   bool
	loaded bool
}

func (s *spooled) Mark() (m capture.Mark, ok bool) { return m, s.mark }
func (s *spooled) Loaded(capture.Mark) bool        { return s.loaded }

func TestWhoTossedIsKnownWhenTheFirstAnswersAreLoaded(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	spool := &spooled{mark: true}
	var k known
	require.Zero(t, k.look(spool, at(0)), "not loaded yet")
	first, second, third := k.toss(at(1)), k.toss(at(2)), k.toss(at(3))
	spool.loaded = true
	require.Equal(t, at(1), k.look(spool, at(4)), "the first answer is under way")
	k.settle(second)
	require.Equal(t, at(1), k.look(spool, at(5)), "it still is; the second's ended first")
	k.settle(first)
	spool.loaded = false
	require.Equal(t, at(1), k.look(spool, at(6)), "both ended; what they left is not loaded")
	k.settle(third)
	spool.loaded = true
	require.Equal(t, at(7), k.look(spool, at(7)), "what was asked before holds, and nothing is under way now")
	spool.mark = false
	require.Equal(t, at(7), k.look(spool, at(8)), "records wait beside the disk")
	require.Empty(t, k.coins)
}
