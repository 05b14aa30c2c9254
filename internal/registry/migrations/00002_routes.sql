-- What serves: claims with their fences, routes, rollouts. Every change is one function of the next migration.

-- +goose Up

-- The route's row is also the service's lock: whoever changes claims, fences, rollouts or the route takes it
-- first, so that no two such changes interleave.
CREATE TABLE routes (
    service    text PRIMARY KEY REFERENCES services (name),
    epoch      bigint NOT NULL DEFAULT 1,
    generation bigint NOT NULL DEFAULT 0,
    stable     text NOT NULL DEFAULT '',
    previous   text NOT NULL DEFAULT '',
    canary     text NOT NULL DEFAULT '',
    share_bp   integer NOT NULL DEFAULT 0 CHECK (share_bp BETWEEN 0 AND 9999),
    rollout    text NOT NULL DEFAULT '',
    step       integer NOT NULL DEFAULT 0,
    lease      bigint NOT NULL DEFAULT 0,
    band_key   bytea NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (share_bp = 0 OR canary <> ''),
    CHECK ((canary = '') = (rollout = ''))
);

CREATE TABLE fences (
    service text NOT NULL REFERENCES services (name),
    loop    text NOT NULL,
    fence   bigint NOT NULL,
    PRIMARY KEY (service, loop)
);

CREATE TABLE claims (
    service      text NOT NULL REFERENCES services (name),
    loop         text NOT NULL,
    fence        bigint NOT NULL,
    namespace    text NOT NULL,
    workflow_id  text NOT NULL,
    first_run_id text NOT NULL,
    claimed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at    timestamptz,
    PRIMARY KEY (service, loop, fence)
);
CREATE UNIQUE INDEX claims_one_open ON claims (service, loop) WHERE closed_at IS NULL;

CREATE TABLE rollouts (
    id         text PRIMARY KEY CHECK (id <> ''),
    service    text NOT NULL REFERENCES services (name),
    release    text NOT NULL,
    baseline   text NOT NULL,
    owner      jsonb NOT NULL,
    fence      bigint NOT NULL,
    phase      text NOT NULL CHECK (phase IN ('running', 'promoted', 'rolled-back', 'invalid')),
    reason     text NOT NULL DEFAULT '',
    started_by jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    touched    jsonb,
    FOREIGN KEY (service, release) REFERENCES releases (service, id)
);
CREATE INDEX rollouts_newest ON rollouts (service, started_at DESC);

CREATE TABLE rollout_steps (
    rollout    text NOT NULL REFERENCES rollouts (id),
    step       integer NOT NULL CHECK (step >= 0),
    record     jsonb NOT NULL,
    PRIMARY KEY (rollout, step)
);

-- Pooled exposure credit: units and levels in basis points of a request; see draw_credit.
CREATE TABLE credit_pools (
    service text NOT NULL REFERENCES services (name),
    rollout text NOT NULL,
    epoch   bigint NOT NULL DEFAULT 0,
    level   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (service, rollout)
);

CREATE TABLE credit_draws (
    service text NOT NULL,
    rollout text NOT NULL,
    gateway text NOT NULL,
    drawn   bigint NOT NULL DEFAULT 0,
    earned  bigint NOT NULL DEFAULT 0,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (service, rollout, gateway),
    FOREIGN KEY (service, rollout) REFERENCES credit_pools (service, rollout)
);

CREATE TABLE gateways (
    service         text NOT NULL REFERENCES services (name),
    gateway         text NOT NULL,
    epoch           bigint NOT NULL,
    generation      bigint NOT NULL,
    requests        bigint NOT NULL,
    canary_requests bigint NOT NULL,
    started_at      timestamptz NOT NULL,
    reported_at     timestamptz NOT NULL,
    PRIMARY KEY (service, gateway)
);

CREATE TABLE endpoints (
    service     text NOT NULL REFERENCES services (name),
    release     text NOT NULL,
    url         text NOT NULL,
    model       text NOT NULL,
    embedder    text NOT NULL,
    capacity    integer NOT NULL,
    ready       boolean NOT NULL,
    attribution text NOT NULL,
    seen_at     timestamptz,
    PRIMARY KEY (service, release, url, model)
);

CREATE TABLE canary_conversations (
    service      text NOT NULL REFERENCES services (name),
    rollout      text NOT NULL,
    conversation text NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, rollout, conversation)
);

GRANT SELECT ON routes, fences, claims, rollouts, rollout_steps, credit_pools, credit_draws TO refit_app;
GRANT SELECT, INSERT, UPDATE ON gateways TO refit_app;
GRANT SELECT, INSERT, DELETE ON endpoints TO refit_app;
GRANT SELECT, INSERT ON canary_conversations TO refit_app;

-- +goose Down
DROP TABLE canary_conversations, endpoints, gateways, credit_draws, credit_pools, rollout_steps, rollouts, claims, fences, routes;
