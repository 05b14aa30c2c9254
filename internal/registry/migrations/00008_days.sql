-- Interactions by day (UTC), what they were made with, and the days that went to the archive. A release before this
-- one writes and reads the table as it did.

-- +goose Up

ALTER TABLE interactions RENAME TO interactions_before;
ALTER INDEX interactions_pkey RENAME TO interactions_before_pkey;
ALTER INDEX interactions_rollout RENAME TO interactions_before_rollout;
ALTER INDEX interactions_started RENAME TO interactions_before_started;

CREATE TABLE interactions (LIKE interactions_before) PARTITION BY RANGE (started);
-- owner is a keyed hash of the API key that asked. content says what became of input and output: full, none (the
-- service keeps none), sampled-out, dropped (for want of room); empty where a former release wrote the row.
ALTER TABLE interactions
    ADD COLUMN owner      text NOT NULL DEFAULT '',
    ADD COLUMN content    text NOT NULL DEFAULT '',
    ADD COLUMN scores     double precision[] NOT NULL DEFAULT '{}',
    ADD COLUMN parameters jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN used       jsonb NOT NULL DEFAULT '{}',
    ADD PRIMARY KEY (service, id, started);
CREATE INDEX interactions_rollout ON interactions (service, rollout, conversation, started) WHERE rollout <> '';
CREATE INDEX interactions_started ON interactions (service, started);

-- What has no day of its own is kept, too.
CREATE TABLE interactions_default PARTITION OF interactions DEFAULT;

ALTER TABLE feedback ADD COLUMN owner text NOT NULL DEFAULT '';

CREATE TABLE archived_days (
    service      text NOT NULL,
    day          date NOT NULL,
    artifact     text NOT NULL,
    interactions bigint NOT NULL CHECK (interactions >= 0),
    feedback     bigint NOT NULL CHECK (feedback >= 0),
    archived_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    forgotten_at timestamptz,
    ordinal      bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (service, day, artifact),
    FOREIGN KEY (service, artifact) REFERENCES artifacts (service, digest)
);

-- +goose StatementBegin
CREATE FUNCTION utc_today() RETURNS date
    LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$ SELECT (now() AT TIME ZONE 'UTC')::date $$;

CREATE FUNCTION utc_midnight(p_day date) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE SET search_path = public, pg_temp AS $$ SELECT p_day::timestamp AT TIME ZONE 'UTC' $$;

CREATE FUNCTION interactions_partition(p_day date) RETURNS text
    LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$ SELECT 'interactions_' || to_char(p_day, 'YYYYMMDD') $$;

-- keep_days makes partitions for days and gives those that have one afterwards. Rows that came before their
-- partition move into it. Days that cannot be meant (a year and more ago, a week and more ahead) get none: their
-- rows stay in the default partition, so the number of partitions is bounded whatever clients' clocks say.
CREATE FUNCTION keep_days(p_days date[]) RETURNS date[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    d      date;
    part   text;
    there  date[] := '{}';
BEGIN
    IF cardinality(p_days) > 500 THEN
        RAISE EXCEPTION 'too many days at once: %', cardinality(p_days) USING ERRCODE = 'RF400';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('refit.interactions', 0));
    SET LOCAL lock_timeout = '2s'; -- who cannot have it now tries again, and stops nobody meanwhile
    FOR d IN SELECT DISTINCT n FROM unnest(p_days) n WHERE n BETWEEN utc_today() - 400 AND utc_today() + 7 ORDER BY n LOOP
        part := interactions_partition(d);
        IF to_regclass('public.' || part) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE interactions INCLUDING DEFAULTS)', part);
            EXECUTE format('WITH moved AS (DELETE FROM interactions_default WHERE started >= %L AND started < %L RETURNING *)
                INSERT INTO %I SELECT * FROM moved', utc_midnight(d), utc_midnight(d + 1), part);
            EXECUTE format('ALTER TABLE interactions ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                part, utc_midnight(d), utc_midnight(d + 1));
        END IF;
        there := there || d;
    END LOOP;
    RETURN there;
END
$$;

-- forget_day removes a service's rows of a day that are archived, all of them: a row that came after the archive
-- refuses it. A partition that nobody else has rows in is dropped.
CREATE FUNCTION forget_day(p_service text, p_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    part  text := interactions_partition(p_day);
    a     timestamptz := utc_midnight(p_day);
    b     timestamptz := utc_midnight(p_day + 1);
    kept  archived_days;
    n     bigint;
    f     bigint;
BEGIN
    IF p_day >= utc_today() - 1 THEN
        RAISE EXCEPTION 'day % is not over long enough to be forgotten', p_day USING ERRCODE = 'RF403';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('refit.interactions', 0));
    SET LOCAL lock_timeout = '5s';
    IF to_regclass('public.' || part) IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', part);
    ELSE
        LOCK TABLE interactions_default IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    LOCK TABLE feedback IN SHARE ROW EXCLUSIVE MODE; -- in the order in which loaders take them
    SELECT count(*) INTO n FROM interactions i WHERE i.service = p_service AND i.started >= a AND i.started < b;
    SELECT count(*) INTO f FROM feedback w WHERE w.service = p_service AND w.at >= a AND w.at < b;
    IF n = 0 AND f = 0 THEN
        RETURN; -- forgotten before
    END IF;
    SELECT * INTO kept FROM archived_days d WHERE d.service = p_service AND d.day = p_day ORDER BY ordinal DESC LIMIT 1;
    IF kept.artifact IS NULL OR kept.interactions <> n OR kept.feedback <> f THEN
        RAISE EXCEPTION 'day % of % holds % interactions and % feedback, its archive % and %',
            p_day, p_service, n, f, coalesce(kept.interactions, 0), coalesce(kept.feedback, 0) USING ERRCODE = 'RF409';
    END IF;
    DELETE FROM feedback w WHERE w.service = p_service AND w.at >= a AND w.at < b;
    IF to_regclass('public.' || part) IS NOT NULL
        AND NOT EXISTS (SELECT FROM interactions i WHERE i.service <> p_service AND i.started >= a AND i.started < b) THEN
        EXECUTE format('ALTER TABLE interactions DETACH PARTITION %I', part);
        EXECUTE format('DROP TABLE %I', part);
    ELSE
        DELETE FROM interactions i WHERE i.service = p_service AND i.started >= a AND i.started < b;
    END IF;
    UPDATE archived_days d SET forgotten_at = clock_timestamp()
    WHERE d.service = p_service AND d.day = p_day AND d.artifact = kept.artifact;
END
$$;
-- +goose StatementEnd

-- Rows of former releases go to their days.
SELECT keep_days(coalesce(array_agg(DISTINCT (started AT TIME ZONE 'UTC')::date), '{}'))
FROM interactions_before WHERE started > now() - interval '399 days';
INSERT INTO interactions SELECT * FROM interactions_before;
DROP TABLE interactions_before;

GRANT SELECT, INSERT ON interactions TO refit_app;
GRANT SELECT, INSERT ON archived_days TO refit_app;
REVOKE EXECUTE ON FUNCTION utc_today, utc_midnight, interactions_partition, keep_days, forget_day FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keep_days, forget_day TO refit_app;

-- +goose Down
CREATE TABLE interactions_before (
    LIKE interactions,
    PRIMARY KEY (service, id)
);
INSERT INTO interactions_before SELECT DISTINCT ON (service, id) * FROM interactions ORDER BY service, id, started;
DROP TABLE archived_days, interactions;
DROP FUNCTION forget_day, keep_days, interactions_partition, utc_midnight, utc_today;
ALTER TABLE interactions_before DROP COLUMN owner, DROP COLUMN content, DROP COLUMN scores, DROP COLUMN parameters, DROP COLUMN used;
ALTER TABLE interactions_before RENAME TO interactions;
ALTER INDEX interactions_before_pkey RENAME TO interactions_pkey;
CREATE INDEX interactions_rollout ON interactions (service, rollout, conversation, started) WHERE rollout <> '';
CREATE INDEX interactions_started ON interactions (service, started);
GRANT SELECT, INSERT ON interactions TO refit_app;
ALTER TABLE feedback DROP COLUMN owner;
