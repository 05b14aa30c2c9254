package freeze_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/freeze"
	"github.com/refitml/refit/internal/lifecycle"
)

func weekly(zone, text string, levers ...lifecycle.Lever) lifecycle.FreezeWindow {
	return lifecycle.FreezeWindow{Name: "weekend", Weekly: text, TimeZone: zone, Levers: levers}
}

func dated(zone, from, until string) lifecycle.FreezeWindow {
	return lifecycle.FreezeWindow{Name: "holidays", From: from, Until: until, TimeZone: zone}
}

func of(windows ...lifecycle.FreezeWindow) freeze.Calendar {
	return freeze.Calendar{Policy: lifecycle.ChangePolicy{Freezes: windows}, Zones: time.LoadLocation}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse("2006-01-02 15:04Z07:00", text)
	require.NoError(t, err)
	return parsed
}

// Each end of a window is given by the last moment without the freeze, and the moment at which it ends.
func TestWindowsBeginAndEndOverChangesOfTheClocks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		window      lifecycle.FreezeWindow
		from, until string
	}{
		"a weekend in winter":                {weekly("Europe/Berlin", "Fri 12:00 to Mon 08:00"), "2026-01-09 11:00Z", "2026-01-12 07:00Z"},
		"one in summer":                      {weekly("Europe/Berlin", "Fri 12:00 to Mon 08:00"), "2026-07-10 10:00Z", "2026-07-13 06:00Z"},
		"one over Berlin's spring":           {weekly("Europe/Berlin", "Fri 12:00 to Mon 08:00"), "2026-03-27 11:00Z", "2026-03-30 06:00Z"},
		"one over Berlin's autumn":           {weekly("Europe/Berlin", "Fri 12:00 to Mon 08:00"), "2026-10-23 10:00Z", "2026-10-26 07:00Z"},
		"one over New York's spring":         {weekly("America/New_York", "Fri 12:00 to Mon 08:00"), "2026-03-06 17:00Z", "2026-03-09 12:00Z"},
		"one over New York's autumn":         {weekly("America/New_York", "Fri 12:00 to Mon 08:00"), "2026-10-30 16:00Z", "2026-11-02 13:00Z"},
		"a begin that Berlin leaves out":     {weekly("Europe/Berlin", "Sun 02:30 to Sun 05:00"), "2026-03-29 01:00Z", "2026-03-29 03:00Z"},
		"an end that Berlin leaves out":      {weekly("Europe/Berlin", "Sat 22:00 to Sun 02:30"), "2026-03-28 21:00Z", "2026-03-29 01:00Z"},
		"a begin that New York leaves out":   {weekly("America/New_York", "Sun 02:30 to Sun 05:00"), "2026-03-08 07:00Z", "2026-03-08 09:00Z"},
		"a begin that Berlin shows twice":    {weekly("Europe/Berlin", "Sun 02:30 to Sun 05:00"), "2026-10-25 00:30Z", "2026-10-25 04:00Z"},
		"an end that Berlin shows twice":     {weekly("Europe/Berlin", "Sat 22:00 to Sun 02:30"), "2026-10-24 20:00Z", "2026-10-25 01:30Z"},
		"an end that New York shows twice":   {weekly("America/New_York", "Sat 22:00 to Sun 01:30"), "2026-11-01 02:00Z", "2026-11-01 06:30Z"},
		"both, in the hour that comes twice": {weekly("Europe/Berlin", "Sun 02:10 to Sun 02:50"), "2026-10-25 00:10Z", "2026-10-25 01:50Z"},
		"holidays":                           {dated("Europe/Berlin", "2026-12-23 18:00", "2027-01-04 08:00"), "2026-12-23 17:00Z", "2027-01-04 07:00Z"},
		"a day that Samoa never had":         {dated("Pacific/Apia", "2011-12-29 12:00", "2011-12-30 12:00"), "2011-12-29 22:00Z", "2011-12-30 10:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calendar := of(tc.window)
			from, until := at(t, tc.from), at(t, tc.until)
			before, err := calendar.At(from.Add(-time.Nanosecond), nil)
			require.NoError(t, err)
			require.Nil(t, before)
			for _, inside := range []time.Time{from, until.Add(-time.Nanosecond)} {
				frozen, err := calendar.At(inside, nil)
				require.NoError(t, err)
				require.NotNil(t, frozen, inside)
				require.True(t, until.Equal(frozen.Until), "at %s it ends at %s, not %s", inside, frozen.Until.UTC(), until)
			}
			after, err := calendar.At(until, nil)
			require.NoError(t, err)
			require.Nil(t, after)
		})
	}
}

// The hour that a change of the clocks leaves out freezes nothing, because it is not there.
func TestAWindowWithinTheHourThatIsLeftOut(t *testing.T) {
	t.Parallel()
	calendar := of(weekly("Europe/Berlin", "Sun 02:10 to Sun 02:50"))
	for m := range 120 {
		frozen, err := calendar.At(at(t, "2026-03-29 00:00Z").Add(time.Duration(m)*time.Minute), nil)
		require.NoError(t, err)
		require.Nil(t, frozen)
	}
	frozen, err := calendar.At(at(t, "2026-04-05 00:20Z"), nil)
	require.NoError(t, err)
	require.NotNil(t, frozen, "a week later it is")
}

func TestFreezesHoldLevers(t *testing.T) {
	t.Parallel()
	calendar := of(weekly("UTC", "Mon 00:00 to Tue 00:00", lifecycle.WeightsLever, lifecycle.RetrievalLever))
	monday := at(t, "2026-06-01 12:00Z")
	for name, tc := range map[string]struct {
		levers []lifecycle.Lever
		frozen bool
	}{
		"weights":              {[]lifecycle.Lever{lifecycle.WeightsLever}, true},
		"prompt":               {[]lifecycle.Lever{lifecycle.PromptLever}, false},
		"prompt and retrieval": {[]lifecycle.Lever{lifecycle.PromptLever, lifecycle.RetrievalLever}, true},
		"nobody knows which":   {nil, true},
	} {
		frozen, err := calendar.At(monday, tc.levers)
		require.NoError(t, err)
		require.Equal(t, tc.frozen, frozen != nil, name)
	}
}

func TestFreezesThatFollowEachOtherAreOne(t *testing.T) {
	t.Parallel()
	calendar := of(weekly("UTC", "Fri 12:00 to Mon 08:00"), dated("UTC", "2026-06-08 07:00", "2026-06-09 10:00"))
	calendar.Policy.Freezes[1].Name = "conference"
	frozen, err := calendar.At(at(t, "2026-06-06 00:00Z"), nil)
	require.NoError(t, err)
	require.Equal(t, at(t, "2026-06-09 10:00Z"), frozen.Until.UTC())
	require.Equal(t, "window weekend, window conference", frozen.By)

	calendar.Incidents = []lifecycle.Freeze{{Name: "inc-7", Reason: "search is down", EndsAt: at(t, "2026-06-10 00:00Z")}}
	frozen, err = calendar.At(at(t, "2026-06-06 00:00Z"), nil)
	require.NoError(t, err)
	require.Equal(t, at(t, "2026-06-10 00:00Z"), frozen.Until.UTC())
	require.Equal(t, "search is down", frozen.Reason)

	calendar.Incidents[0].EndsAt = time.Time{}
	frozen, err = calendar.At(at(t, "2026-06-10 12:00Z"), nil)
	require.NoError(t, err)
	require.Equal(t, lifecycle.Frozen{By: "incident inc-7", Reason: "search is down"}, *frozen)
	calendar.Incidents[0].ClosedAt = at(t, "2026-06-10 11:00Z")
	frozen, err = calendar.At(at(t, "2026-06-10 12:00Z"), nil)
	require.NoError(t, err)
	require.Nil(t, frozen)
}

func TestAFreezeWithoutAGapEndsTheSearch(t *testing.T) {
	t.Parallel()
	calendar := of(weekly("UTC", "Mon 00:00 to Thu 00:00"), weekly("UTC", "Thu 00:00 to Mon 00:00"))
	now := at(t, "2026-06-06 00:00Z")
	frozen, err := calendar.At(now, nil)
	require.NoError(t, err)
	require.Greater(t, frozen.Until.Sub(now), 365*24*time.Hour)
}

func TestTheNextFreezes(t *testing.T) {
	t.Parallel()
	gone := dated("UTC", "2025-12-23 18:00", "2026-01-04 08:00")
	gone.Name = "last-year"
	calendar := of(dated("Europe/Berlin", "2026-12-23 18:00", "2027-01-04 08:00"), weekly("Europe/Berlin", "Fri 12:00 to Mon 08:00"), gone)
	coming, err := calendar.Next(at(t, "2026-10-23 11:00Z"))
	require.NoError(t, err)
	require.Len(t, coming, 2)
	require.Equal(t, "window weekend", coming[0].By)
	require.Equal(t, at(t, "2026-10-30 11:00Z"), coming[0].From.UTC(), "the one in force is not the next one")
	require.Equal(t, "window holidays", coming[1].By)
}

func TestUntilWhenNothingBegins(t *testing.T) {
	t.Parallel()
	prompts := weekly("Europe/Berlin", "Wed 12:00 to Thu 08:00")
	prompts.Levers = []lifecycle.Lever{lifecycle.PromptLever}
	calendar := of(dated("Europe/Berlin", "2026-12-23 18:00", "2027-01-04 08:00"), weekly("Europe/Berlin", "Fri 12:00 to Mon 08:00"), prompts)
	tuesday := at(t, "2026-10-20 11:00Z")
	for want, levers := range map[string][]lifecycle.Lever{
		"2026-10-21 10:00Z": {lifecycle.PromptLever}, "2026-10-23 10:00Z": {lifecycle.WeightsLever},
	} {
		until, err := calendar.Until(tuesday, levers)
		require.NoError(t, err)
		require.Equal(t, at(t, want), until.UTC())
		frozen, err := calendar.At(until.Add(-time.Nanosecond), levers)
		require.NoError(t, err)
		require.Nil(t, frozen)
		frozen, err = calendar.At(until, levers)
		require.NoError(t, err)
		require.NotNil(t, frozen)
	}
	until, err := of().Until(tuesday, nil)
	require.NoError(t, err)
	require.Equal(t, 366*24*time.Hour, until.Sub(tuesday))
}

func TestAnUnknownZoneIsNoLeaveToChange(t *testing.T) {
	t.Parallel()
	calendar := of(weekly("Europe/Atlantis", "Fri 12:00 to Mon 08:00"))
	calendar.Zones = func(string) (*time.Location, error) { return nil, errors.New("it sank") }
	_, err := calendar.At(time.Now(), nil)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	_, err = calendar.Next(time.Now())
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	_, err = calendar.Until(time.Now(), nil)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
}

// walls is what the wall shows, minute by minute, as minutes since the first one in UTC; found by asking for each.
type walls struct {
	begin time.Time
	shown []time.Time
}

func wallsOf(begin time.Time, days int, zone *time.Location) walls {
	w := walls{begin: begin}
	for m := range days * 24 * 60 {
		y, mo, d := begin.Add(time.Duration(m) * time.Minute).In(zone).Date()
		h, mi, _ := begin.Add(time.Duration(m) * time.Minute).In(zone).Clock()
		w.shown = append(w.shown, time.Date(y, mo, d, h, mi, 0, 0, time.UTC))
	}
	return w
}

// mark marks every minute of a window between two times on the wall, as the package comment defines it.
func (w walls) mark(frozen []bool, begin, end time.Time) {
	from, until := len(w.shown), -1
	for m, shown := range w.shown {
		if from == len(w.shown) && !shown.Before(begin) {
			from = m
		}
		if shown.Before(end) {
			until = m
		}
	}
	for m := from; m <= until; m++ {
		frozen[m] = true
	}
}

// The calendar agrees with an oracle that looks at every minute, wherever clocks are changed.
func TestTheCalendarAgreesWithAMinuteByMinuteOracle(t *testing.T) {
	t.Parallel()
	changes := []struct {
		zone  string
		about time.Time // the Monday before a change of the clocks
	}{
		{"Europe/Berlin", time.Date(2026, 3, 23, 0, 0, 0, 0, time.UTC)}, {"Europe/Berlin", time.Date(2026, 10, 19, 0, 0, 0, 0, time.UTC)},
		{"America/New_York", time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}, {"America/New_York", time.Date(2026, 10, 26, 0, 0, 0, 0, time.UTC)},
		{"Australia/Lord_Howe", time.Date(2026, 3, 30, 0, 0, 0, 0, time.UTC)}, {"Pacific/Apia", time.Date(2011, 12, 26, 0, 0, 0, 0, time.UTC)},
		{"Asia/Kolkata", time.Date(2026, 3, 23, 0, 0, 0, 0, time.UTC)},
	}
	const days = 35
	shown := make([]walls, len(changes))
	for i, c := range changes {
		zone, err := time.LoadLocation(c.zone)
		require.NoError(t, err)
		shown[i] = wallsOf(c.about.AddDate(0, 0, -14), days, zone)
	}
	names := []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(changes)-1).Draw(t, "change")
		w := shown[i]
		minute := rapid.Custom(func(t *rapid.T) int {
			if rapid.Bool().Draw(t, "in the night of the change") {
				return rapid.IntRange(5*1440+20*60, 6*1440+6*60).Draw(t, "minute")
			}
			return rapid.IntRange(0, 7*1440-1).Draw(t, "minute")
		})
		from := minute.Draw(t, "from")
		until := minute.Filter(func(m int) bool { return m != from }).Draw(t, "until")
		form := func(m int) string { return fmt.Sprintf("%s %02d:%02d", names[m/1440], m/60%24, m%60) }
		calendar := of(weekly(changes[i].zone, form(from)+" to "+form(until)))
		frozen := make([]bool, len(w.shown))
		length := until - from
		if length < 0 {
			length += 7 * 1440
		}
		for week := -2; week <= 5; week++ {
			begin := w.begin.AddDate(0, 0, 7*week).Add(time.Duration(from) * time.Minute)
			w.mark(frozen, begin, begin.Add(time.Duration(length)*time.Minute))
		}
		// Away from the ends of what the oracle sees.
		look := func(m int) {
			got, err := calendar.At(w.begin.Add(time.Duration(m)*time.Minute), nil)
			require.NoError(t, err)
			require.Equal(t, frozen[m], got != nil, "minute %d, wall %s", m, w.shown[m])
			if got == nil {
				return
			}
			end := m
			for end < len(frozen) && frozen[end] {
				end++
			}
			if end < len(frozen) {
				require.True(t, w.begin.Add(time.Duration(end)*time.Minute).Equal(got.Until), "from minute %d it ends at %s", m, got.Until.UTC())
			}
		}
		for m := 7 * 1440; m < (days-7)*1440; m++ {
			if frozen[m] != frozen[m-1] {
				look(m - 1)
				look(m)
			}
		}
		for range 15 {
			look(rapid.IntRange(7*1440, (days-7)*1440-1).Draw(t, "minute to look at"))
		}
	})
}
