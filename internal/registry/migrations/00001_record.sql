-- The record: services, artifacts, releases, evaluations, the ladder and the ledger.

-- +goose Up

-- +goose StatementBegin
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(r, ', ') INTO missing
    FROM unnest(ARRAY['refit_app', 'refit_rollback']) AS r
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'the roles % do not exist; an administrator creates them before migrating (CREATE ROLE name LOGIN)', missing
            USING ERRCODE = 'RF400';
    END IF;
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO refit_app', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO refit_rollback', current_database());
END
$$;
-- +goose StatementEnd

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO refit_app, refit_rollback;
-- Functions are executable by everybody unless that is taken away first.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- ledger_sequence is the service's counter: its row lock is what keeps the ledger without gaps.
CREATE TABLE services (
    name            text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    version         integer NOT NULL DEFAULT 0,
    ledger_sequence bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE service_versions (
    service     text NOT NULL REFERENCES services (name),
    version     integer NOT NULL,
    digest      text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    declaration json NOT NULL,
    applied_by  jsonb NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, version)
);

-- dedupe is given where a step may be repeated: the second entry with it is dropped. chain is for a hash
-- over this entry and the one before; it is empty until entries are chained.
CREATE TABLE ledger (
    service  text NOT NULL REFERENCES services (name),
    sequence bigint NOT NULL,
    at       timestamptz NOT NULL,
    kind     text NOT NULL CHECK (kind <> ''),
    subject  text NOT NULL,
    actor    text NOT NULL,
    via      text NOT NULL,
    reason   text NOT NULL,
    evidence jsonb,
    dedupe   text,
    chain    bytea,
    PRIMARY KEY (service, sequence)
);
CREATE UNIQUE INDEX ledger_once ON ledger (service, dedupe) WHERE dedupe IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION ledger_number() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM services WHERE name = NEW.service FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'service % is not declared', NEW.service USING ERRCODE = 'RF404';
    END IF;
    IF NEW.dedupe IS NOT NULL AND EXISTS (SELECT FROM ledger l WHERE l.service = NEW.service AND l.dedupe = NEW.dedupe) THEN
        RETURN NULL;
    END IF;
    UPDATE services SET ledger_sequence = ledger_sequence + 1 WHERE name = NEW.service
    RETURNING ledger_sequence INTO NEW.sequence;
    NEW.at := clock_timestamp();
    RETURN NEW;
END
$$;

CREATE FUNCTION ledger_refuse() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % is refused', lower(TG_OP) USING ERRCODE = 'RF403';
END
$$;
-- +goose StatementEnd

CREATE TRIGGER ledger_number BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION ledger_number();
CREATE TRIGGER ledger_keep_rows BEFORE UPDATE OR DELETE ON ledger FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER ledger_keep_all BEFORE TRUNCATE ON ledger FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();

CREATE TABLE artifacts (
    service  text NOT NULL REFERENCES services (name),
    digest   text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    kind     text NOT NULL,
    size     bigint NOT NULL,
    files    integer NOT NULL,
    parents  text[] NOT NULL,
    labels   jsonb NOT NULL,
    made_by  jsonb NOT NULL,
    made_at  timestamptz NOT NULL,
    ordinal  bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (service, digest)
);
CREATE INDEX artifacts_digest ON artifacts (digest);
CREATE INDEX artifacts_newest ON artifacts (service, kind, ordinal DESC);

-- The database itself holds that a release is named by the digest of its bytes.
CREATE TABLE releases (
    service   text NOT NULL REFERENCES services (name),
    id        text NOT NULL,
    canonical bytea NOT NULL,
    added_by  jsonb NOT NULL,
    added_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ordinal   bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (service, id),
    CHECK (id = encode(sha256(canonical), 'hex'))
);
CREATE INDEX releases_prefix ON releases (service, id text_pattern_ops);
CREATE INDEX releases_newest ON releases (service, ordinal DESC);

-- One verdict per candidate, baseline and suite. An error is not a verdict: it is kept, and may be followed
-- by one.
CREATE TABLE evaluations (
    service    text NOT NULL REFERENCES services (name),
    candidate  text NOT NULL,
    baseline   text NOT NULL,
    suite      text NOT NULL,
    outcome    text NOT NULL CHECK (outcome IN ('pass', 'regress', 'underpowered', 'error')),
    attempt    integer NOT NULL,
    verdict    jsonb NOT NULL,
    decided_by jsonb NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ordinal    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
);
CREATE UNIQUE INDEX evaluations_once ON evaluations (service, candidate, baseline, suite) WHERE outcome <> 'error';
CREATE INDEX evaluations_newest ON evaluations (service, ordinal DESC);
CREATE INDEX evaluations_against ON evaluations (service, baseline, suite);

CREATE TABLE ladders (
    service   text NOT NULL REFERENCES services (name),
    id        text NOT NULL,
    deficit   text NOT NULL,
    opened_by jsonb NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, id),
    UNIQUE (service, deficit)
);

CREATE TABLE ladder_evidence (
    service text NOT NULL,
    ladder  text NOT NULL,
    digest  text NOT NULL,
    ordinal bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (service, ladder, digest),
    FOREIGN KEY (service, ladder) REFERENCES ladders (service, id)
);

CREATE TABLE ladder_attempts (
    service   text NOT NULL,
    ladder    text NOT NULL,
    lever     text NOT NULL,
    candidate text NOT NULL,
    suite     text NOT NULL,
    gain      double precision NOT NULL,
    ceiling   boolean NOT NULL,
    ordinal   bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (service, ladder, lever, candidate, suite),
    FOREIGN KEY (service, ladder) REFERENCES ladders (service, id)
);

GRANT SELECT ON services, service_versions TO refit_app;
GRANT SELECT, INSERT ON ledger, artifacts, releases, evaluations, ladders, ladder_evidence, ladder_attempts TO refit_app;

-- +goose Down
DROP TABLE ladder_attempts, ladder_evidence, ladders, evaluations, releases, artifacts, ledger, service_versions, services;
DROP FUNCTION ledger_number(), ledger_refuse();
