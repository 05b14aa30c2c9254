package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/refitml/refit/internal/lifecycle"
)

// Config says where captured things are stored. URL is required.
type Config struct {
	URL      string // of the application's role
	MaxConns int32  // connections at once; default 4
	AppName  string // shown in pg_stat_activity; default "refit-capture"
}

// Store is what was captured, in PostgreSQL. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// Open prepares connections. It does not ask the database, because who captures must start without it.
func Open(ctx context.Context, config Config) (*Store, error) {
	parsed, err := pgxpool.ParseConfig(config.URL)
	if err != nil || config.URL == "" {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "registry.url: missing or not an address of PostgreSQL")
	}
	setDefault(&config.MaxConns, 4)
	setDefault(&config.AppName, "refit-capture")
	parsed.MaxConns = config.MaxConns
	parsed.ConnConfig.RuntimeParams["application_name"] = config.AppName
	if parsed.ConnConfig.ConnectTimeout == 0 {
		parsed.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	pool, err := pgxpool.NewWithConfig(ctx, parsed)
	if err != nil {
		return nil, wrap(err, "prepare connections to the store of interactions")
	}
	return &Store{pool: pool}, nil
}

// Close gives the connections back.
func (s *Store) Close() { s.pool.Close() }

// AddInteractions stores served requests, each once by its ID.
func (s *Store) AddInteractions(ctx context.Context, interactions []lifecycle.Interaction) error {
	records := make([]record, len(interactions))
	for i := range interactions {
		records[i].Interaction = &interactions[i]
	}
	return s.store(ctx, records)
}

// AddFeedback stores what users said, each once by its ID. An unknown kind is Invalid.
func (s *Store) AddFeedback(ctx context.Context, feedback []lifecycle.Feedback) error {
	records := make([]record, len(feedback))
	for i := range feedback {
		if err := checkFeedback(feedback[i]); err != nil {
			return err
		}
		records[i].Feedback = &feedback[i]
	}
	return s.store(ctx, records)
}

var feedbackColumns = []string{"service", "id", "interaction", "kind", "reason", "correction", "at", "owner"}

func feedbackRow(f *lifecycle.Feedback) []any {
	return []any{
		text(f.Service), text(f.ID), text(f.Interaction), f.Kind, text(f.Reason), text(f.Correction), f.At, text(f.Owner),
	}
}

// store stores a batch in one transaction. Each row is stored once, by its ID.
func (s *Store) store(ctx context.Context, records []record) error {
	interactions := make([]*lifecycle.Interaction, 0, len(records))
	var feedback [][]any
	for _, r := range records {
		if r.Feedback != nil {
			feedback = append(feedback, feedbackRow(r.Feedback))
			continue
		}
		if !fits(r.Interaction) {
			return lifecycle.Errorf(lifecycle.Invalid, "interaction %s has a number that no column holds", r.Interaction.ID)
		}
		interactions = append(interactions, r.Interaction)
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if len(interactions) > 0 {
			err := once(ctx, tx, "interactions", interactionColumns, func(arriving, list string) error {
				_, err := tx.Conn().PgConn().CopyFrom(ctx, &copyRows{interactions: interactions}, `COPY `+arriving+` (`+list+`) FROM STDIN BINARY`)
				return err
			})
			if err != nil {
				return err
			}
		}
		if len(feedback) == 0 {
			return nil
		}
		return once(ctx, tx, "feedback", feedbackColumns, func(arriving, _ string) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{arriving}, feedbackColumns, pgx.CopyFromRows(feedback))
			return err
		})
	})
	return wrap(err, "store %d captured records", len(records))
}

// once copies rows by way of a temporary table, because COPY knows no conflicts. The table stays with its
// connection, so that batches do not fill the catalogue.
func once(ctx context.Context, tx pgx.Tx, table string, columns []string, fill func(arriving, list string) error) error {
	arriving, list := "arriving_"+table, strings.Join(columns, ", ")
	_, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE IF NOT EXISTS `+arriving+` ON COMMIT DELETE ROWS AS SELECT `+list+` FROM `+table+` WITH NO DATA`)
	if err != nil {
		return err
	}
	if err := fill(arriving, list); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO `+table+` (`+list+`) SELECT `+list+` FROM `+arriving+` ON CONFLICT DO NOTHING`)
	return err
}

// wrap gives err its kind and says what was being tried. Nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	var known *lifecycle.Error
	if errors.As(err, &known) {
		return lifecycle.Wrap(err, format, args...)
	}
	kind := lifecycle.Unavailable // what came from the way to the database
	var state *pgconn.PgError
	if errors.As(err, &state) {
		switch {
		case state.Code == "42501", state.Code == "RF403":
			kind = lifecycle.Refused
		case state.Code == "RF409":
			kind = lifecycle.Conflict
		case strings.HasPrefix(state.Code, "22"), strings.HasPrefix(state.Code, "23"), unencodable(state):
			kind = lifecycle.Invalid
		case strings.HasPrefix(state.Code, "42"):
			kind = lifecycle.Internal
		}
	}
	return lifecycle.Errorf(kind, "%s: %w", fmt.Sprintf(format, args...), err)
}

// unencodable says that the driver could not write a row of a COPY: it ends the copy with its reason, which the
// server hands back as a cancelled query. A real cancellation or time-out has no such reason.
func unencodable(state *pgconn.PgError) bool {
	return state.Code == "57014" && strings.Contains(state.Message, "unable to encode")
}
