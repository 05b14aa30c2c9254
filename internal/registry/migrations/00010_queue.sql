-- How long an interaction waited for its places on model servers.

-- +goose Up
ALTER TABLE interactions ADD COLUMN queue double precision NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE interactions DROP COLUMN queue;
