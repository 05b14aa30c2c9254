package e2e

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// ledger reads the whole history.
func (w *world) ledger() []lifecycle.LedgerEntry {
	w.t.Helper()
	var entries []lifecycle.LedgerEntry
	await(w.t, "the ledger to be read", func() (bool, any) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var err error
		entries, err = w.registry.Ledger(ctx, registry.LedgerQuery{Service: w.service, Limit: 100_000})
		return err == nil, err
	})
	return entries
}

// entriesOf gives the entries of some kinds, in order.
func entriesOf(entries []lifecycle.LedgerEntry, kinds ...lifecycle.LedgerKind) []lifecycle.LedgerEntry {
	var found []lifecycle.LedgerEntry
	for _, e := range entries {
		for _, kind := range kinds {
			if e.Kind == kind {
				found = append(found, e)
			}
		}
	}
	return found
}

// checkRecord holds the record against what is true of it whatever happened: a ledger without gaps, one holder a
// claim at a time.
func (w *world) checkRecord() {
	w.t.Helper()
	for i, e := range w.ledger() {
		require.Equal(w.t, int64(i+1), e.Sequence, "the ledger has a gap before %+v", e)
	}
	w.refit(nil, "ledger", "verify", w.service) // exits 1 where it is not what was written, or not what was anchored
	type span struct {
		Loop   string
		Fence  int64
		Opened time.Time
		Closed *time.Time
	}
	spans := query(w, pgx.RowToStructByPos[span], `SELECT loop, fence, claimed_at, closed_at FROM claims ORDER BY loop, fence`)
	for i := 1; i < len(spans); i++ {
		before, after := spans[i-1], spans[i]
		if before.Loop != after.Loop {
			continue
		}
		require.NotNil(w.t, before.Closed, "claim %s has two holders: fences %d and %d", after.Loop, before.Fence, after.Fence)
		require.False(w.t, after.Opened.Before(*before.Closed), "the holders of %s overlap: %+v, %+v", after.Loop, before, after)
	}
}

// query reads rows as the database's owner.
func query[T any](w *world, scan pgx.RowToFunc[T], sql string, args ...any) []T {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.ownerURL)
	require.NoError(w.t, err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, sql, args...)
	require.NoError(w.t, err)
	list, err := pgx.CollectRows(rows, scan)
	require.NoError(w.t, err)
	return list
}

// routeWatch sees the route many times a second for as long as it runs.
type routeWatch struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
	fault  string // the first one
	seen   int
}

// watchRoute looks at the route until it is stopped. A generation that falls is a fault.
func (w *world) watchRoute() *routeWatch {
	ctx, cancel := context.WithCancel(context.Background())
	watch := &routeWatch{cancel: cancel}
	watch.wait.Go(func() {
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		var last lifecycle.Route
		for {
			route, err := w.registry.Route(ctx, w.service)
			if err == nil {
				watch.seen++
				if watch.fault == "" && (route.Epoch < last.Epoch || route.Epoch == last.Epoch && route.Generation < last.Generation) {
					watch.fault = "the route went back from generation " + last.ChangedAt.String() + " to " + route.ChangedAt.String()
				}
				last = route
			}
			select {
			case <-again.C:
			case <-ctx.Done():
				return
			}
		}
	})
	w.t.Cleanup(watch.end)
	return watch
}

func (r *routeWatch) end() { r.cancel(); r.wait.Wait() }

// check ends the watch and says whether the generation only grew.
func (r *routeWatch) check(t *testing.T) {
	t.Helper()
	r.end()
	require.Positive(t, r.seen)
	require.Empty(t, r.fault)
}

// exposureCap is B, the credit that one gateway may hold at most; see package rollout.
const exposureCap = 20

// checkExposure holds what the model server served against the exposure rule, over the shares that the ledger says
// were allowed. Of every run of chats the canary had at most the sum of the shares and B for each gateway, and from
// the beginning at most the sum of the shares. inFlight is how many requests may have overtaken each other between
// admission and the server.
func (s *served) checkExposure(inFlight int) {
	s.t.Helper()
	s.checkExposureFrom(time.Time{}, inFlight)
}

// checkExposureFrom is checkExposure of a rollout that began at a time.
func (s *served) checkExposureFrom(from time.Time, inFlight int) {
	s.t.Helper()
	allowed := s.shares(from)
	most := float64(inFlight + exposureCap*len(s.gateways))
	excess, window := 0.0, 0.0 // since the beginning, and of the worst run that ends here
	canary := 0
	promoted := time.Now()
	for _, e := range entriesOf(s.ledger(), lifecycle.Promoted) {
		if e.Subject == string(s.candidate) {
			promoted = e.At // from here its weights are stable's
		}
	}
	for i, c := range s.models.served() {
		if c.at.After(promoted) {
			break
		}
		if c.at.Before(from) {
			require.NotEqual(s.t, s.name, c.model, "chat %d: the canary served before its rollout", i)
			continue
		}
		earned := allowed(c.at)
		excess -= earned
		window = max(0, window-earned)
		if c.model == s.name {
			canary++
			excess++
			window++
		}
		require.LessOrEqual(s.t, excess, float64(inFlight), "chat %d: the canary had %.1f more than the sum of its shares", i, excess)
		require.LessOrEqual(s.t, window, most, "chat %d: a run of chats gave the canary %.1f more than its shares", i, window)
	}
	s.t.Logf("the model server counted %d chats by the canary of %d, to the end of the rollout or now", canary, len(s.models.served()))
}

// shares gives the share that was allowed at a time, from the ledger of a rollout that began at a time. After a share was
// taken away a request may still be on its way under it, so what counts is the larger of the last two.
func (s *served) shares(from time.Time) func(time.Time) float64 {
	type change struct {
		at    time.Time
		share float64
	}
	var changes []change
	for _, e := range entriesOf(s.ledger(), lifecycle.ShareChanged, lifecycle.RolledBack, lifecycle.Promoted, lifecycle.ClaimReleased, lifecycle.ClaimTakenOver) {
		if e.At.Before(from) {
			continue
		}
		var evidence struct {
			To int `json:"to_bp"`
		}
		if e.Kind == lifecycle.ShareChanged {
			require.NoError(s.t, json.Unmarshal(e.Evidence, &evidence))
		}
		changes = append(changes, change{e.At, float64(evidence.To) / 10_000})
	}
	return func(at time.Time) float64 {
		before, now := 0.0, 0.0
		for _, c := range changes {
			if c.at.After(at) {
				break
			}
			before, now = now, c.share
		}
		return max(before, now)
	}
}

// checkCaptured holds what is stored against what clients saw: every answer once, and none that nobody asked for.
// Where mayLose is nil nothing may be missing, and clients, model server and store count the same.
func (s *served) checkCaptured(tr *traffic, exchanges []exchange, mayLose func(exchange) bool) {
	s.t.Helper()
	seen := map[string]bool{}
	for _, e := range exchanges {
		if e.interaction != "" {
			require.False(s.t, seen[e.interaction], "two answers under one interaction")
			seen[e.interaction] = true
		}
	}
	lost := 0
	await(s.t, "every interaction to be stored", func() (bool, any) {
		stored := map[string]bool{}
		for _, id := range query(s.world, pgx.RowTo[string], `SELECT id FROM interactions`) {
			stored[id] = true
		}
		lost = 0
		for _, e := range exchanges {
			if e.interaction == "" || stored[e.interaction] {
				continue
			}
			lost++
			if mayLose == nil || !mayLose(e) {
				return false, e
			}
		}
		return true, nil
	})
	total := query(s.world, pgx.RowTo[int64], `SELECT count(*) FROM interactions`)[0]
	s.t.Logf("%d requests sent, %d chats at the model server, %d stored, %d lost in kills", tr.sent.Load(), len(s.models.served()), total, lost)
	require.LessOrEqual(s.t, total, tr.sent.Load(), "more was stored than was asked")
	if mayLose == nil {
		require.Equal(s.t, tr.sent.Load(), total, "stored and sent differ")
		require.Len(s.t, s.models.served(), int(total), "stored and served differ")
	}
}

func scanInt(row pgx.CollectableRow) (n int, err error) {
	err = row.Scan(&n)
	return n, err
}
