package capture

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// daysAhead is for how many days from today partitions are made beforehand.
const daysAhead = 3

// Day gives the day of a time, in UTC: interactions are kept, archived and forgotten by it.
func Day(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// KeepDays makes partitions for days and gives those that have one afterwards. A day that cannot be meant has none:
// its interactions are kept in the default partition.
func (s *Store) KeepDays(ctx context.Context, days []time.Time) ([]time.Time, error) {
	rows, err := s.pool.Query(ctx, `SELECT unnest(keep_days($1::date[]))`, days)
	if err != nil {
		return nil, wrap(err, "make partitions for %d days", len(days))
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	return there, wrap(err, "make partitions for %d days", len(days))
}

// calendar knows which days have partitions, so that the database is asked once a day and for late records.
type calendar struct {
	store *Store
	now   func() time.Time
	known map[time.Time]bool
	ahead time.Time // today, when days ahead were made last
}

// keep sees that the days of records have partitions, and the next days too. What cannot be made is tried again
// with the next batch; until then rows go to the default partition, and from there to their day.
func (c *calendar) keep(ctx context.Context, records []record) error {
	var wanted []time.Time
	add := func(day time.Time) {
		if !c.known[day] {
			c.known[day] = true
			wanted = append(wanted, day)
		}
	}
	today := Day(c.now())
	if !today.Equal(c.ahead) {
		clear(c.known)
		for n := range daysAhead + 1 {
			add(today.AddDate(0, 0, n))
		}
	}
	for _, r := range records {
		if r.Interaction != nil {
			add(Day(r.Interaction.Started))
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	if _, err := c.store.KeepDays(ctx, wanted); err != nil {
		for _, day := range wanted {
			delete(c.known, day)
		}
		return err
	}
	c.ahead = today
	return nil
}
