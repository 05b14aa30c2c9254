-- The ledger's entries are chained: each holds a hash over itself and the one before, so that none can be changed, removed
-- or put in without every later hash being another. The registry's epoch can be begun anew after a restore.

-- +goose Up

-- +goose StatementBegin
CREATE FUNCTION ledger_field(p text) RETURNS bytea
    LANGUAGE sql IMMUTABLE SET search_path = public, pg_temp AS $$
    SELECT CASE WHEN p IS NULL THEN '\xffffffff'::bytea
           ELSE int4send(octet_length(convert_to(p, 'UTF8'))) || convert_to(p, 'UTF8') END;
$$;

-- ledger_link is lifecycle.Chained.Link: SHA-256 over the fields, each with its length before it.
CREATE FUNCTION ledger_link(l ledger, previous bytea) RETURNS bytea
    LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT sha256(ledger_field('refit ledger 1') || ledger_field(encode(previous, 'hex')) || ledger_field(l.service)
        || ledger_field(l.sequence::text) || ledger_field((extract(epoch FROM l.at) * 1000000)::bigint::text)
        || ledger_field(l.kind) || ledger_field(l.subject) || ledger_field(l.actor) || ledger_field(l.via)
        || ledger_field(l.reason) || ledger_field(l.evidence::text) || ledger_field(l.dedupe));
$$;

CREATE OR REPLACE FUNCTION ledger_number() RETURNS trigger
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
    NEW.chain := ledger_link(NEW,
        coalesce((SELECT l.chain FROM ledger l WHERE l.service = NEW.service AND l.sequence = NEW.sequence - 1), ''));
    RETURN NEW;
END
$$;

-- Entries from before are chained once, as they stand.
DO $$
DECLARE
    l    ledger;
    link bytea;
BEGIN
    ALTER TABLE ledger DISABLE TRIGGER ledger_keep_rows;
    FOR l IN SELECT * FROM ledger ORDER BY service, sequence LOOP
        link := ledger_link(l, CASE WHEN l.sequence = 1 THEN '' ELSE link END);
        UPDATE ledger SET chain = link WHERE service = l.service AND sequence = l.sequence;
    END LOOP;
    ALTER TABLE ledger ENABLE TRIGGER ledger_keep_rows;
END
$$;

-- adopt_registry begins a new epoch of a service's route: gateways that applied more of the old one than this database
-- knows, because it was restored, follow it again. Nobody is on a canary, and no fence of the lost time is given out again.
CREATE FUNCTION adopt_registry(p_service text, p_actor jsonb, p_reason text, p_evidence jsonb) RETURNS routes
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r    routes;
    gone text;
BEGIN
    r := lock_route(p_service);
    gone := r.canary;
    IF r.rollout <> '' THEN
        r := end_canary(r, 'rolled-back', p_reason, NULL);
    END IF;
    PERFORM next_fence(p_service, loop) FROM unnest(ARRAY['promotion']) AS loop;
    UPDATE fences SET fence = fence + 1000000 WHERE service = p_service;
    UPDATE claims SET closed_at = clock_timestamp() WHERE service = p_service AND closed_at IS NULL;
    UPDATE routes SET epoch = epoch + 1 WHERE service = p_service;
    r := store_route(r);
    SELECT * INTO r FROM routes WHERE service = p_service;
    PERFORM append_ledger(p_service, 'registry-adopted', r.stable, p_actor, p_reason,
        jsonb_build_object('epoch', r.epoch, 'generation', r.generation, 'canary', gone) || coalesce(p_evidence, '{}'));
    RETURN r;
END
$$;
-- +goose StatementEnd

ALTER TABLE ledger ALTER COLUMN chain SET NOT NULL;
REVOKE EXECUTE ON FUNCTION ledger_field(text), ledger_link(ledger, bytea), adopt_registry(text, jsonb, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION adopt_registry(text, jsonb, text, jsonb) TO refit_app;

-- +goose Down
DROP FUNCTION adopt_registry(text, jsonb, text, jsonb);
ALTER TABLE ledger ALTER COLUMN chain DROP NOT NULL;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION ledger_number() RETURNS trigger
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
-- +goose StatementEnd
DROP FUNCTION ledger_link(ledger, bytea), ledger_field(text);
