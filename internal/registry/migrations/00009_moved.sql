-- Conversations that were on the canary and were moved to stable for good.

-- +goose Up
ALTER TABLE canary_conversations ADD COLUMN moved boolean NOT NULL DEFAULT false;
GRANT UPDATE (moved) ON canary_conversations TO refit_app;

-- +goose Down
REVOKE UPDATE (moved) ON canary_conversations FROM refit_app;
ALTER TABLE canary_conversations DROP COLUMN moved;
