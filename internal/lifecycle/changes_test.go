package lifecycle_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestFaultsOfAChangePolicyAreTold(t *testing.T) {
	t.Parallel()
	zone := func(name string) error { _, err := time.LoadLocation(name); return err }
	with := func(w ...lifecycle.FreezeWindow) error {
		s := lifecycle.Service{Name: "docs", Changes: lifecycle.ChangePolicy{TimeZone: "Europe/Berlin", Freezes: w}}
		return s.WithDefaults().CheckZones(zone)
	}
	require.NoError(t, with(
		lifecycle.FreezeWindow{Name: "weekend", Weekly: "Fri 12:00 to Mon 08:00"},
		lifecycle.FreezeWindow{Name: "holidays", From: "2026-12-23 18:00", Until: "2027-01-04 08:00", Levers: lifecycle.Levered()},
	))
	for name, tc := range map[string]struct {
		window lifecycle.FreezeWindow
		want   string
	}{
		"no times":           {lifecycle.FreezeWindow{Name: "x"}, "give either weekly, or from and until"},
		"both":               {lifecycle.FreezeWindow{Name: "x", Weekly: "Fri 12:00 to Mon 08:00", From: "2026-12-23 18:00"}, "give either"},
		"an unknown day":     {lifecycle.FreezeWindow{Name: "x", Weekly: "Fre 12:00 to Mon 08:00"}, "changes.freezes[0].weekly"},
		"a time of one hour": {lifecycle.FreezeWindow{Name: "x", Weekly: "Fri 9:00 to Mon 08:00"}, "changes.freezes[0].weekly"},
		"25 o'clock":         {lifecycle.FreezeWindow{Name: "x", Weekly: "Fri 25:00 to Mon 08:00"}, "changes.freezes[0].weekly"},
		"no length":          {lifecycle.FreezeWindow{Name: "x", Weekly: "Fri 12:00 to Fri 12:00"}, "two different times"},
		"backwards":          {lifecycle.FreezeWindow{Name: "x", From: "2027-12-23 18:00", Until: "2027-01-04 08:00"}, "the earlier one first"},
		"a day only":         {lifecycle.FreezeWindow{Name: "x", From: "2026-12-23", Until: "2027-01-04 08:00"}, "changes.freezes[0].from"},
		"an unknown zone":    {lifecycle.FreezeWindow{Name: "x", Weekly: "Fri 12:00 to Mon 08:00", TimeZone: "Europe/Berlni"}, "changes.freezes[0].time_zone"},
		"an unknown lever":   {lifecycle.FreezeWindow{Name: "x", Weekly: "Fri 12:00 to Mon 08:00", Levers: []lifecycle.Lever{"weight"}}, `levers: "weight"`},
		"no name":            {lifecycle.FreezeWindow{Weekly: "Fri 12:00 to Mon 08:00"}, "changes.freezes[0].name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, with(tc.window), tc.want)
		})
	}
	twice := lifecycle.FreezeWindow{Name: "x", Weekly: "Fri 12:00 to Mon 08:00"}
	require.ErrorContains(t, with(twice, twice), "each name once")
}

func TestADeclarationWithoutAChangePolicyHasNone(t *testing.T) {
	t.Parallel()
	for _, freezes := range [][]lifecycle.FreezeWindow{nil, {}} {
		service := lifecycle.Service{Name: "docs", Changes: lifecycle.ChangePolicy{Freezes: freezes}}.WithDefaults()
		raw, err := json.Marshal(service)
		require.NoError(t, err)
		require.NotContains(t, string(raw), "changes", "its digest stays what it was")
	}
}

func TestFaultsOfAnIncidentAreTold(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	require.NoError(t, lifecycle.Freeze{Name: "inc-7", Reason: "search is down"}.Check(now))
	err := lifecycle.Freeze{Name: "INC 7", EndsAt: now, Levers: []lifecycle.Lever{"all"}}.Check(now)
	for _, want := range []string{"name", "reason", "ends_at", "levers"} {
		require.ErrorContains(t, err, want)
	}
}

func FuzzParseWeekly(f *testing.F) {
	for _, seed := range []string{"Fri 12:00 to Mon 08:00", "fri 12:00 TO mon 08:00", "Fri 24:00 to Mon 08:00", "", "Fri 12:00", "Fri 12:00 to Fri 12:00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		from, until, err := lifecycle.ParseWeekly(text)
		if err != nil {
			require.True(t, lifecycle.Is(err, lifecycle.Invalid))
			return
		}
		require.NotEqual(t, from, until)
		for _, w := range []lifecycle.Wall{from, until} {
			require.GreaterOrEqual(t, w, lifecycle.Wall(0))
			require.Less(t, w, lifecycle.WeekMinutes)
		}
	})
}
