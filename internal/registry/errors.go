package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/refitml/refit/internal/lifecycle"
)

// states are the SQLSTATEs that the functions of the database raise.
var states = map[string]lifecycle.Kind{
	"RF400": lifecycle.Invalid,
	"RF403": lifecycle.Refused,
	"RF404": lifecycle.NotFound,
	"RF409": lifecycle.Conflict,
	"RF412": lifecycle.Fenced,
	"RF423": lifecycle.Busy,
}

// wrap gives err its kind and says what was being tried. Nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	doing := fmt.Sprintf(format, args...)
	var known *lifecycle.Error
	if errors.As(err, &known) {
		return lifecycle.Wrap(err, "%s", doing)
	}
	var state *pgconn.PgError
	switch {
	case errors.As(err, &state):
		return ofState(state, doing)
	case errors.Is(err, pgx.ErrNoRows):
		return lifecycle.Errorf(lifecycle.NotFound, "%s: it does not exist", doing)
	case errors.Is(err, context.Canceled):
		return lifecycle.Errorf(lifecycle.Unavailable, "%s: %w", doing, err)
	default:
		// Everything else came from the way to the database: refused, broken, timed out.
		return lifecycle.Errorf(lifecycle.Unavailable, "%s: %w", doing, err)
	}
}

func ofState(state *pgconn.PgError, doing string) error {
	if kind, ok := states[state.Code]; ok {
		fields := map[string]string{}
		if state.Detail != "" && json.Unmarshal([]byte(state.Detail), &fields) != nil {
			fields = nil
		}
		return &lifecycle.Error{Kind: kind, Message: doing + ": " + state.Message, Fields: fields}
	}
	return lifecycle.Errorf(kindOfState(state.Code), "%s: %w", doing, state)
}

func kindOfState(code string) lifecycle.Kind {
	switch {
	case code == "42501": // insufficient privilege
		return lifecycle.Refused
	case code == "23505", code == "23514": // unique, check
		return lifecycle.Conflict
	case code == "23503": // foreign key: what is named is not there
		return lifecycle.NotFound
	case strings.HasPrefix(code, "22"): // a value that cannot be
		return lifecycle.Invalid
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57"),
		strings.HasPrefix(code, "40"), strings.HasPrefix(code, "58"), strings.HasPrefix(code, "28"):
		return lifecycle.Unavailable
	default:
		return lifecycle.Internal
	}
}
