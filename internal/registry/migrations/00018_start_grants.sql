-- Grants of starts, each of which proves who started one run: whoever reads it in a history proves nothing with it.

-- +goose Up
CREATE TABLE start_grants (
    nonce        text PRIMARY KEY CHECK (length(nonce) BETWEEN 16 AND 128),
    first_run_id text NOT NULL,
    used_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT ON start_grants TO refit_app;

-- +goose Down
DROP TABLE start_grants;
