package lifecycle_test

import (
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// chained makes a ledger of n entries, of which those at adopted end an epoch.
func chained(n int, adopted ...int64) []lifecycle.Chained {
	list := make([]lifecycle.Chained, n)
	var previous lifecycle.Digest
	for i := range list {
		kind := lifecycle.ShareChanged
		if slices.Contains(adopted, int64(i+1)) {
			kind = lifecycle.RegistryAdopted
		}
		list[i] = lifecycle.Chained{LedgerEntry: lifecycle.LedgerEntry{
			Service: "docs", Sequence: int64(i + 1), At: time.UnixMicro(1_700_000_000_000_000 + int64(i)), Kind: kind,
			Subject: "s", Actor: lifecycle.Actor{Name: "ann", Via: "cli"}, Reason: "why",
		}}
		previous = list[i].Link(previous)
		list[i].Chain = previous
	}
	return list
}

func each(list []lifecycle.Chained) iter.Seq2[lifecycle.Chained, error] {
	return func(yield func(lifecycle.Chained, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func anchorsOf(list []lifecycle.Chained, epoch int64, at ...int64) (out []lifecycle.Anchor) {
	for _, n := range at {
		out = append(out, lifecycle.Anchor{Service: "docs", Epoch: epoch, Sequence: n, Chain: list[n-1].Chain, At: time.Now(), Locked: time.Now()})
	}
	return out
}

func audited(t interface {
	require.TestingT
	Helper()
}, list []lifecycle.Chained, counted int64, anchors []lifecycle.Anchor) lifecycle.LedgerAudit {
	t.Helper()
	a, err := lifecycle.AuditLedger("docs", each(list), counted, anchors)
	require.NoError(t, err)
	return a
}

func TestAWholeLedgerHasNoFault(t *testing.T) {
	t.Parallel()
	list := chained(20)
	a := audited(t, list, 20, anchorsOf(list, 1, 5, 17))
	require.Empty(t, a.Faults)
	require.NoError(t, a.Err())
	require.EqualValues(t, 17, a.Anchored)
	require.Equal(t, 2, a.Anchors)
	require.Zero(t, a.Unlocked)
	require.Equal(t, list[19].Chain, a.Head)
	require.Empty(t, audited(t, nil, 0, nil).Faults)
	list[3].Evidence = []byte(`{"shown": "another"}`)
	require.NotEmpty(t, audited(t, list, 20, nil).Faults, "what is shown is not what was hashed")
	_, err := lifecycle.AuditLedger("docs", func(yield func(lifecycle.Chained, error) bool) { yield(lifecycle.Chained{}, errors.New("gone")) }, 0, nil)
	require.Error(t, err, "what cannot be read is not whole")
}

// Whatever somebody does to one entry, and however they make the chain whole again, it is found.
func TestTamperingWithALedgerIsFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := chained(30)
		anchors := anchorsOf(list, 1, 10, 20, 30)
		n := rapid.IntRange(0, 29).Draw(t, "entry")
		what := rapid.SampledFrom([]string{"change", "remove", "insert", "swap", "cut"}).Draw(t, "what")
		again := rapid.Bool().Draw(t, "chain again")
		switch what {
		case "change":
			e := &list[n]
			switch rapid.IntRange(0, 8).Draw(t, "field") {
			case 0:
				e.Reason = "another"
			case 1:
				e.Actor.Name = "bob"
			case 2:
				e.Actor.Via = "api"
			case 3:
				e.Subject = "other"
			case 4:
				e.Kind = lifecycle.Promoted
			case 5:
				e.At = e.At.Add(time.Microsecond)
			case 6:
				e.Text, e.Evidence = `{}`, []byte(`{}`)
			case 7:
				e.Key = "k"
			case 8:
				e.Subject, e.Reason = "swh", "y" // the same letters in other fields
			}
		case "remove":
			list = slices.Delete(list, n, n+1)
		case "insert":
			list = slices.Insert(list, n, list[n])
			list[n].Actor.Name = "mallory"
		case "swap":
			m := (n + 1) % 30
			list[n], list[m] = list[m], list[n]
		case "cut":
			list = list[:n]
		}
		if again { // as somebody with all rights in the database would
			var previous lifecycle.Digest
			for i := range list {
				list[i].Sequence = int64(i + 1)
				previous = list[i].Link(previous)
				list[i].Chain = previous
			}
		}
		a := audited(t, list, int64(len(list)), anchors)
		require.NotEmpty(t, a.Faults, "%s %d", what, n)
		require.True(t, lifecycle.Is(a.Err(), lifecycle.Corrupt))
	})
}

func TestWhatWasLostWithARestoreIsAdoptedOnce(t *testing.T) {
	t.Parallel()
	lost := chained(40)
	anchors := anchorsOf(lost, 1, 10, 30, 40)
	restored := chained(20)
	require.Equal(t, lifecycle.LedgerCut, audited(t, restored, 20, anchors).Faults[0].Fault, "an older database")
	adopted := chained(25, 21)
	a := audited(t, adopted, 25, append(anchors, anchorsOf(adopted, 2, 23)...))
	require.Empty(t, a.Faults)
	require.Equal(t, 2, a.Anchors, "those of what was lost vouch for nothing")
	require.EqualValues(t, 23, a.Anchored)
	other := chained(25, 5)
	require.Equal(t, 1, audited(t, other, 25, append(anchors, anchorsOf(other, 2, 23)...)).Anchors)
}
