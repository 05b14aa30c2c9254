-- Incidents that hold changes until somebody closes them. The windows of a calendar stand in declarations.

-- +goose Up

CREATE TABLE freezes (
    ordinal   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service   text NOT NULL REFERENCES services (name),
    name      text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    reason    text NOT NULL CHECK (reason <> ''),
    levers    text[] NOT NULL,
    opened_by jsonb NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ends_at   timestamptz,
    closed_by jsonb,
    closed_at timestamptz
);
CREATE UNIQUE INDEX freezes_open ON freezes (service, name) WHERE closed_at IS NULL;
CREATE INDEX freezes_newest ON freezes (service, ordinal DESC);

-- +goose StatementBegin
-- open_freeze gives the one that is open where the same is opened again. One that ended by itself makes room.
CREATE FUNCTION open_freeze(p_service text, p_name text, p_reason text, p_levers text[], p_ends timestamptz, p_actor jsonb)
    RETURNS freezes LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    f freezes;
BEGIN
    PERFORM FROM services WHERE name = p_service FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'service % is not declared', p_service USING ERRCODE = 'RF404';
    END IF;
    UPDATE freezes SET closed_at = ends_at, closed_by = opened_by
    WHERE service = p_service AND name = p_name AND closed_at IS NULL AND ends_at <= clock_timestamp();
    SELECT * INTO f FROM freezes WHERE service = p_service AND name = p_name AND closed_at IS NULL;
    IF FOUND THEN
        IF f.reason = p_reason AND f.levers = p_levers AND f.ends_at IS NOT DISTINCT FROM p_ends THEN
            RETURN f;
        END IF;
        RAISE EXCEPTION 'freeze % of % is open already, by % since %', p_name, p_service, f.opened_by ->> 'name',
            to_char(f.opened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') USING ERRCODE = 'RF409';
    END IF;
    INSERT INTO freezes (service, name, reason, levers, ends_at, opened_by)
    VALUES (p_service, p_name, p_reason, p_levers, p_ends, p_actor) RETURNING * INTO f;
    PERFORM append_ledger(p_service, 'freeze-opened', p_name, p_actor, p_reason,
        jsonb_build_object('levers', p_levers, 'ends_at', p_ends));
    RETURN f;
END
$$;

-- close_freeze changes nothing where the newest freeze of the name is closed already.
CREATE FUNCTION close_freeze(p_service text, p_name text, p_reason text, p_actor jsonb)
    RETURNS freezes LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    f freezes;
BEGIN
    PERFORM FROM services WHERE name = p_service FOR UPDATE;
    SELECT * INTO f FROM freezes WHERE service = p_service AND name = p_name ORDER BY ordinal DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'service % has no freeze %', p_service, p_name USING ERRCODE = 'RF404';
    END IF;
    IF f.closed_at IS NOT NULL THEN
        RETURN f;
    END IF;
    UPDATE freezes SET closed_at = clock_timestamp(), closed_by = p_actor WHERE ordinal = f.ordinal RETURNING * INTO f;
    PERFORM append_ledger(p_service, 'freeze-closed', p_name, p_actor, p_reason, NULL);
    RETURN f;
END
$$;
-- +goose StatementEnd

GRANT SELECT ON freezes TO refit_app;
REVOKE EXECUTE ON FUNCTION open_freeze, close_freeze FROM PUBLIC;
GRANT EXECUTE ON FUNCTION open_freeze, close_freeze TO refit_app;

-- +goose Down
DROP FUNCTION close_freeze, open_freeze;
DROP TABLE freezes;
