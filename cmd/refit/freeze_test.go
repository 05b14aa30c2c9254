package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/freeze"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestFreezesAreCommanded(t *testing.T) {
	t.Parallel()
	monday := time.Date(2026, 6, 8, 6, 0, 0, 0, time.UTC)
	frozen := &lifecycle.Frozen{By: "window weekend", Until: monday}
	a := newAPI(t, map[string]any{
		"check-freeze": control.CheckFreezeResult{At: monday.Add(-time.Hour), Frozen: frozen},
		"open-freeze":  lifecycle.Freeze{Service: "docs", Name: "inc-7", OpenedAt: monday}, "close-freeze": lifecycle.Freeze{Service: "docs", Name: "inc-7", ClosedAt: monday},
		"break-glass": steps.State{Glass: monday},
		"freezes": control.FreezesResult{
			Frozen: frozen, Next: []freeze.Coming{{By: "window weekend", From: monday.Add(time.Hour), Until: monday.Add(2 * time.Hour)}},
			Windows:   []lifecycle.FreezeWindow{{Name: "weekend", Weekly: "Fri 12:00 to Mon 08:00", TimeZone: "Europe/Berlin"}},
			Incidents: []lifecycle.Freeze{{Name: "inc-7", Reason: "search is down", OpenedAt: monday, OpenedBy: lifecycle.Actor{Name: "ada"}}},
		},
	})
	o := a.run("freeze", "check", "docs", "--release", "abc", "--at", "2026-06-08T07:00:00+02:00")
	require.Equal(t, 5, o.code, "%s", o.errors)
	require.Contains(t, o.out, "frozen by window weekend until 2026-06-08 06:00Z")
	o = a.run("freeze", "check", "docs", "-o", "json")
	require.Equal(t, 5, o.code)
	var checked control.CheckFreezeResult
	require.NoError(t, json.Unmarshal([]byte(o.out), &checked), "one JSON value: %s", o.out)
	require.Equal(t, frozen, checked.Frozen)

	o = a.run("freeze", "list", "docs")
	require.Zero(t, o.code)
	for _, want := range []string{"frozen by window weekend", "incident inc-7", "search is down (ada)", "Fri 12:00 to Mon 08:00 Europe/Berlin"} {
		require.Contains(t, o.out, want)
	}
	require.Zero(t, a.run("freeze", "open", "docs", "inc-7", "--reason", "search is down", "--lever", "weights,prompt").code)
	require.Zero(t, a.run("freeze", "close", "docs", "inc-7", "--reason", "it is up").code)
	o = a.run("break-glass", "docs", "--reason", "answers are wrong now", "--for", "30m")
	require.Zero(t, o.code)
	require.Contains(t, o.out, "glass broken until 2026-06-08 06:00:00Z")
	asJSON, err := json.Marshal(a.asked)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"check-freeze": [{"service": "docs", "release": "abc", "at": "2026-06-08T07:00:00+02:00"}, {"service": "docs"}],
		"freezes": [{"service": "docs"}],
		"open-freeze": [{"service": "docs", "name": "inc-7", "reason": "search is down", "levers": ["weights", "prompt"]}],
		"close-freeze": [{"service": "docs", "name": "inc-7", "reason": "it is up"}],
		"break-glass": [{"service": "docs", "reason": "answers are wrong now", "for": "30m0s"}]
	}`, string(asJSON))

	for _, args := range [][]string{
		{"freeze", "check", "docs", "--at", "tomorrow"}, {"freeze", "open", "docs"}, {"freeze", "open", "docs", "inc-7", "--for", "-1h"},
	} {
		require.Equal(t, 2, a.run(args...).code, args)
	}
}

func TestThePlanIsPrintedBeforeAPromotionStarts(t *testing.T) {
	t.Parallel()
	plan := lifecycle.RolloutPlan{PerDay: 1000, Basis: "1000 conversations a day in the last 7.0 days", Steps: []lifecycle.StepPlan{
		{Share: 500, Canary: 50, Days: 1, Bound: lifecycle.Duration(24 * time.Hour), Why: "min_conversations"},
	}}.Described()
	promoting := control.Promoting{Started: started, Plan: &plan}
	a := newAPI(t, map[string]any{"promote": promoting})
	o := a.run("promote", "docs", "--accept-late")
	require.Zero(t, o.code)
	require.Equal(t, `plan: 1000 conversations a day in the last 7.0 days
  step 1 at 5%: 50 conversations on the canary (min_conversations), about 24.0 h of 24h0m0s
  in all about 24.0 h for a release that is as good as stable, without approvals and freezes
started promote/docs
http://ui.test
`, o.out)
	var said control.Promoting
	require.NoError(t, json.Unmarshal([]byte(a.run("promote", "docs", "-o", "json").out), &said))
	require.Equal(t, promoting, said)

	promoting.Started, promoting.Refused = control.Started{}, "changes are frozen"
	a = newAPI(t, map[string]any{"promote": promoting})
	o = a.run("promote", "docs", "--dry-run")
	require.Equal(t, 5, o.code)
	require.Contains(t, o.out, "step 1 at 5%")
	require.NotContains(t, o.out, "started")
	require.Contains(t, o.errors, "it would be refused: changes are frozen")
}
