-- Who signed which release. A signature is worth only what the key that made it is: readers check it themselves.

-- +goose Up
CREATE TABLE release_signatures (
    service   text NOT NULL,
    release   text NOT NULL,
    key_id    text NOT NULL CHECK (key_id ~ '^[0-9a-f]{64}$'),
    envelope  jsonb NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, release, key_id),
    FOREIGN KEY (service, release) REFERENCES releases (service, id)
);
GRANT SELECT, INSERT ON release_signatures TO refit_app;

-- +goose Down
DROP TABLE release_signatures;
