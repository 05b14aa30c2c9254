-- Who may ask the data plane: clients' keys, by the hash of what the client holds.

-- +goose Up

CREATE TABLE api_keys (
    id                  text PRIMARY KEY CHECK (id ~ '^rfk_[a-z2-7]{12}$'),
    name                text NOT NULL CHECK (name <> ''),
    services            text[] NOT NULL CHECK (cardinality(services) BETWEEN 1 AND 64),
    hash                bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    requests_per_minute bigint NOT NULL CHECK (requests_per_minute >= 0),
    tokens_per_minute   bigint NOT NULL CHECK (tokens_per_minute >= 0),
    created_by          jsonb NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at          timestamptz,
    revoked_at          timestamptz,
    revoked_by          jsonb
);
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;

-- One row: it is the lock of every change, and its generation is what gateways look at.
CREATE TABLE api_key_changes (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    generation bigint NOT NULL
);
INSERT INTO api_key_changes (generation) VALUES (1);

-- +goose StatementBegin
CREATE FUNCTION tell_keys_changed() RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    now_at bigint;
BEGIN
    UPDATE api_key_changes SET generation = generation + 1 RETURNING generation INTO now_at;
    PERFORM pg_notify('refit_keys', now_at::text);
END
$$;

CREATE FUNCTION add_api_key(p_id text, p_name text, p_services text[], p_hash bytea, p_requests bigint, p_tokens bigint,
                            p_expires timestamptz, p_actor jsonb)
    RETURNS api_keys LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    k       api_keys;
    missing text;
    s       text;
BEGIN
    PERFORM tell_keys_changed(); -- first: it is the lock
    SELECT string_agg(n, ', ') INTO missing FROM unnest(p_services) n WHERE NOT EXISTS (SELECT FROM services v WHERE v.name = n);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'service % is not declared', missing USING ERRCODE = 'RF404';
    END IF;
    IF EXISTS (SELECT FROM api_keys WHERE name = p_name AND revoked_at IS NULL) THEN
        RAISE EXCEPTION 'there is a key named % already; revoke it or give another name', p_name USING ERRCODE = 'RF409';
    END IF;
    INSERT INTO api_keys (id, name, services, hash, requests_per_minute, tokens_per_minute, expires_at, created_by)
    VALUES (p_id, p_name, p_services, p_hash, p_requests, p_tokens, p_expires, p_actor)
    RETURNING * INTO k;
    FOR s IN SELECT DISTINCT n FROM unnest(p_services) n ORDER BY n LOOP
        PERFORM append_ledger(s, 'key-created', p_id, p_actor, '', jsonb_build_object('name', p_name, 'services', p_services,
            'requests_per_minute', p_requests, 'tokens_per_minute', p_tokens, 'expires_at', p_expires));
    END LOOP;
    RETURN k;
END
$$;

-- revoke_api_key changes nothing where the key was revoked before.
CREATE FUNCTION revoke_api_key(p_id text, p_actor jsonb, p_reason text)
    RETURNS api_keys LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    k api_keys;
    s text;
BEGIN
    PERFORM FROM api_key_changes FOR UPDATE;
    SELECT * INTO k FROM api_keys WHERE id = p_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no key %', p_id USING ERRCODE = 'RF404';
    END IF;
    IF k.revoked_at IS NOT NULL THEN
        RETURN k;
    END IF;
    PERFORM tell_keys_changed();
    UPDATE api_keys SET revoked_at = clock_timestamp(), revoked_by = p_actor WHERE id = p_id RETURNING * INTO k;
    FOR s IN SELECT DISTINCT n FROM unnest(k.services) n ORDER BY n LOOP
        PERFORM append_ledger(s, 'key-revoked', p_id, p_actor, p_reason, jsonb_build_object('name', k.name));
    END LOOP;
    RETURN k;
END
$$;
-- +goose StatementEnd

GRANT SELECT ON api_keys, api_key_changes TO refit_app;
REVOKE EXECUTE ON FUNCTION tell_keys_changed, add_api_key, revoke_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION add_api_key, revoke_api_key TO refit_app;

-- +goose Down
DROP FUNCTION revoke_api_key, add_api_key, tell_keys_changed;
DROP TABLE api_key_changes, api_keys;
