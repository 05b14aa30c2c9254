-- What was served and what users said of it. Package capture reads and writes these tables.

-- +goose Up

CREATE TABLE interactions (
    service         text NOT NULL,
    id              text NOT NULL,
    conversation    text NOT NULL,
    turn            integer NOT NULL,
    client          text NOT NULL,
    release         text NOT NULL,
    rollout         text NOT NULL,
    step            integer NOT NULL,
    canary          boolean NOT NULL,
    coin            boolean NOT NULL,
    propensity      double precision NOT NULL,
    moved           boolean NOT NULL,
    rescued         boolean NOT NULL,
    endpoint        text NOT NULL,
    started         timestamptz NOT NULL,
    retrieval       double precision NOT NULL,
    first_token     double precision NOT NULL,
    model           double precision NOT NULL,
    post_processing double precision NOT NULL,
    total           double precision NOT NULL,
    prompt_tokens     integer NOT NULL,
    completion_tokens integer NOT NULL,
    outcome         text NOT NULL,
    status          integer NOT NULL,
    guardrails      text[] NOT NULL,
    finish          text NOT NULL,
    passages        text[] NOT NULL,
    input           text NOT NULL,
    output          text NOT NULL,
    PRIMARY KEY (service, id)
);
CREATE INDEX interactions_rollout ON interactions (service, rollout, conversation, started) WHERE rollout <> '';
CREATE INDEX interactions_started ON interactions (service, started);

-- No reference to interactions: feedback may come first.
CREATE TABLE feedback (
    service     text NOT NULL,
    id          text NOT NULL,
    interaction text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('thumbs-up', 'thumbs-down', 'correction', 'abandoned')),
    reason      text NOT NULL,
    correction  text NOT NULL,
    at          timestamptz NOT NULL,
    stored_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, id)
);
CREATE INDEX feedback_interaction ON feedback (service, interaction);
CREATE INDEX feedback_at ON feedback (service, at);

GRANT SELECT, INSERT ON interactions, feedback TO refit_app;

-- +goose Down
DROP TABLE feedback, interactions;
