package activities_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// always is a calendar that holds every change of some levers at every time.
func always(levers ...lifecycle.Lever) lifecycle.ChangePolicy {
	return lifecycle.ChangePolicy{TimeZone: "Europe/Berlin", Freezes: []lifecycle.FreezeWindow{
		{Name: "early", Weekly: "Mon 00:00 to Thu 00:00", Levers: levers}, {Name: "late", Weekly: "Thu 00:00 to Mon 00:00", Levers: levers},
	}}
}

func (c *canary) freezes() *steps.FreezeInput {
	return &steps.FreezeInput{Service: "docs", Release: c.in.Release, Baseline: c.stable}
}

// declare applies the service anew with a change policy.
func (c *canary) declare(t *testing.T, changes lifecycle.ChangePolicy) {
	t.Helper()
	declared, err := c.Registry.Service(t.Context(), "docs")
	require.NoError(t, err)
	declared.Changes = changes
	c.apply(t, declared)
}

func (c *canary) open(t *testing.T, name string) {
	t.Helper()
	_, err := c.Registry.OpenFreeze(t.Context(), lifecycle.Freeze{Service: "docs", Name: name, Reason: "search is down", OpenedBy: by})
	require.NoError(t, err)
}

func TestTheNewestDeclarationAndOpenIncidentsFreeze(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	check := func() *lifecycle.Frozen {
		out, err := do(t, steps.CheckFreeze, c.promotion.CheckFreeze, *c.freezes())
		require.NoError(t, err)
		return out.Frozen
	}
	require.Nil(t, check())
	c.declare(t, always())
	require.Contains(t, check().By, "window ")
	c.declare(t, always(lifecycle.PromptLever, lifecycle.RetrievalLever))
	require.Nil(t, check(), "the candidate changes the weights only")
	c.declare(t, always(lifecycle.WeightsLever))
	require.NotNil(t, check())
	c.declare(t, lifecycle.ChangePolicy{})
	c.open(t, "inc-7")
	require.Equal(t, &lifecycle.Frozen{By: "incident inc-7", Reason: "search is down"}, check())

	unknown := *c.freezes()
	unknown.Service = "nobody"
	_, err := do(t, steps.CheckFreeze, c.promotion.CheckFreeze, unknown)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "no answer is no leave: %v", err)
}

func TestAThawIsSeen(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	c.open(t, "inc-7")
	over := make(chan error, 1)
	asked := make(chan struct{}, 1)
	c.promotion.Look = time.Millisecond
	go func() {
		_, err := on(newTry(), steps.AwaitThaw, func(ctx context.Context, in steps.FreezeInput) (steps.FreezeResult, error) {
			asked <- struct{}{}
			return c.promotion.AwaitThaw(ctx, in)
		}, *c.freezes())
		over <- err
	}()
	<-asked
	require.Empty(t, over)
	_, err := c.Registry.CloseFreeze(t.Context(), "docs", "inc-7", by, "it is up")
	require.NoError(t, err)
	select {
	case err := <-over:
		require.NoError(t, err)
	case <-time.After(patience):
		require.Fail(t, "the thaw was not seen")
	}
}

func TestAFreezeEndsAHoldAndNotItsStep(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	c.in.Freezes = c.freezes()
	c.promotion.Look = time.Millisecond
	h := c.start()
	c.open(t, "inc-7")
	out := h.wait(t)
	require.Equal(t, steps.HoldFrozen, out.Reason)
	require.Equal(t, "incident inc-7", out.Frozen.By)
	require.Equal(t, int32(5000), int32(c.share(t)), "the share stays")

	for name, change := range map[string]func(){
		"in a run that knows no freezes":   func() { c.in.Freezes = nil },
		"while it is paused for it":        func() { c.in.Paused = true },
		"while somebody has broken glass":  func() { c.in.Glass = time.Now().Add(time.Hour) },
		"with evidence, which is not lost": func() {},
	} {
		before := c.in
		change()
		renewed := c.lease(t)
		again := c.start()
		if name == "with evidence, which is not lost" {
			require.Equal(t, steps.HoldFrozen, again.wait(t).Reason, name)
		} else {
			require.Eventually(t, func() bool { return c.lease(t) > renewed }, patience, 10*time.Millisecond)
			require.Never(t, func() bool { return closed(again.ended) }, 50*time.Millisecond, 10*time.Millisecond, name)
			close(again.stop)
			<-again.ended
		}
		c.in = before
	}
}

func TestHarmComesBeforeAFreeze(t *testing.T) {
	t.Parallel()
	c := newCanary(t, 5000, someOwner())
	c.in.Freezes = c.freezes()
	c.open(t, "inc-7")
	c.converse(t, 120, func(i int, served *lifecycle.Interaction) {
		if served.Canary {
			served.Outcome, served.Status = "error", 500
		}
	})
	out, err := c.hold(t)
	require.NoError(t, err)
	require.Equal(t, steps.HoldHarm, out.Reason)
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (c *canary) share(t *testing.T) lifecycle.BasisPoints {
	t.Helper()
	route, err := c.Registry.Route(t.Context(), "docs")
	require.NoError(t, err)
	return route.Share
}

// TestAFreezeThatBeginsWhileAShareIsRaisedHoldsIt: the calendar was read, and said nothing, before the freeze began.
func TestAFreezeThatBeginsWhileAShareIsRaisedHoldsIt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		begins string // a statement, with the service as its argument
		by     string
	}{
		"an incident": {`SELECT FROM open_freeze($1, 'inc-7', 'search is down', '{}', NULL, '{"name": "alice"}')`, "incident inc-7"},
		"a window of a declaration that is applied": {`SELECT FROM services s, service_versions v, LATERAL apply_service(s.name, repeat('a', 64),
			jsonb_set(v.declaration::jsonb, '{changes}', '{"time_zone": "UTC", "freezes": [{"name": "early", "weekly": "Mon 00:00 to Thu 00:00"},
				{"name": "late", "weekly": "Thu 00:00 to Mon 00:00"}]}')::json, '{"name": "alice"}')
			WHERE s.name = $1 AND v.service = s.name AND v.version = s.version`, "window "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCanary(t, 500, someOwner())
			opening, err := pgx.Connect(t.Context(), c.db.AppURL)
			require.NoError(t, err)
			t.Cleanup(func() { _ = opening.Close(context.WithoutCancel(t.Context())) })
			tx, err := opening.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), tc.begins, "docs")
			require.NoError(t, err)

			in := steps.ShareInput{Service: "docs", Claim: c.in.Claim, Step: 1, Share: 2500, By: by, Freezes: c.freezes()}
			done := make(chan steps.ShareResult, 1)
			go func() {
				out, err := do(t, steps.SetShare, c.promotion.SetShare, in)
				assert.NoError(t, err)
				done <- out
			}()
			require.Eventually(t, func() bool {
				var waiting int
				err := tx.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`).Scan(&waiting)
				return err == nil && waiting == 1
			}, patience, 10*time.Millisecond, "the share is being raised")
			require.NoError(t, tx.Commit(t.Context()))
			out := <-done
			require.NotNil(t, out.Frozen)
			require.Contains(t, out.Frozen.By, tc.by)
			route, err := c.Registry.Route(t.Context(), "docs")
			require.NoError(t, err)
			require.EqualValues(t, 500, route.Share)

			in.Glass = time.Now().Add(time.Hour)
			out, err = do(t, steps.SetShare, c.promotion.SetShare, in)
			require.NoError(t, err)
			require.Nil(t, out.Frozen, "the glass was broken")
			in.Glass = time.Time{}
			out, err = do(t, steps.SetShare, c.promotion.SetShare, in)
			require.NoError(t, err)
			require.Nil(t, out.Frozen, "tried again, what was done stays done")
			end := steps.EndInput{Service: "docs", Claim: c.in.Claim, By: by, Freezes: c.freezes()}
			stable, err := do(t, steps.MakeStable, c.promotion.MakeStable, end)
			require.NoError(t, err)
			require.NotNil(t, stable.Frozen)
			back, err := do(t, steps.RollBack, c.promotion.RollBack, end)
			require.NoError(t, err, "the way back asks no freeze")
			require.Equal(t, route.Generation+2, back.Generation)
		})
	}
}
