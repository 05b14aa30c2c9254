-- Up to when it is known what a gateway's conversations that tossed a coin were served: their first records are stored.

-- +goose Up
ALTER TABLE gateways ADD COLUMN known_until timestamptz;

-- +goose Down
ALTER TABLE gateways DROP COLUMN known_until;
