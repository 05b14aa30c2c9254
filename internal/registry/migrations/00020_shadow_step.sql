-- A rollout's shadow step: before the first share the candidate gets copies of requests. A release before this one knows
-- nothing of it, and its functions end it all the same: a share, or the end of the canary, takes the copies away.

-- +goose Up

ALTER TABLE routes ADD COLUMN shadow_bp integer NOT NULL DEFAULT 0 CHECK (shadow_bp BETWEEN 0 AND 10000);
ALTER TABLE rollouts ADD COLUMN shadow jsonb;

-- Scores of pairs of answers, once each: a judge that is asked again may say something else. No text stands here.
CREATE TABLE pair_scores (
    rollout     text NOT NULL REFERENCES rollouts (id),
    interaction text NOT NULL, -- the user's
    stable      double precision NOT NULL CHECK (stable BETWEEN 0 AND 1),
    candidate   double precision NOT NULL CHECK (candidate BETWEEN 0 AND 1),
    scored_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (rollout, interaction)
);
GRANT SELECT, INSERT ON pair_scores TO refit_app;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION store_route(p routes) RETURNS routes
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    p.generation := p.generation + 1;
    p.lease := p.lease + 1;
    p.changed_at := clock_timestamp();
    p.renewed_at := p.changed_at;
    IF p.canary = '' OR p.share_bp > 0 THEN
        p.shadow_bp := 0;
    END IF;
    UPDATE routes SET generation = p.generation, stable = p.stable, previous = p.previous, canary = p.canary,
        share_bp = p.share_bp, shadow_bp = p.shadow_bp, rollout = p.rollout, step = p.step, lease = p.lease, band_key = p.band_key,
        changed_at = p.changed_at, renewed_at = p.renewed_at
    WHERE service = p.service;
    PERFORM pg_notify('refit_route', p.service || ' ' || p.generation);
    RETURN p;
END
$$;

-- set_shadow lets the canary of a rollout whose steps have not begun have copies of a share of requests, or none any
-- more. From its first call to the first share the route's step is -1.
CREATE FUNCTION set_shadow(p_service text, p_fence bigint, p_rollout text, p_share integer, p_actor jsonb, p_reason text)
    RETURNS routes LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r      routes;
    before integer;
BEGIN
    r := lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    IF p_share NOT BETWEEN 0 AND 10000 THEN
        RAISE EXCEPTION 'copies of % basis points of requests: give 0 to 10000', p_share USING ERRCODE = 'RF400';
    END IF;
    IF r.rollout <> p_rollout OR p_rollout = '' THEN
        RAISE EXCEPTION 'rollout % of % is not in flight', p_rollout, p_service USING ERRCODE = 'RF412';
    END IF;
    IF (r.shadow_bp, r.step) = (p_share, -1) THEN
        RETURN r;
    END IF;
    IF r.share_bp > 0 OR r.step > 0 THEN
        RAISE EXCEPTION 'rollout % of % has a share of users already', p_rollout, p_service USING ERRCODE = 'RF409';
    END IF;
    before := r.shadow_bp;
    r.shadow_bp := p_share; r.step := -1;
    r := store_route(r);
    PERFORM append_ledger(p_service, 'shadow-changed', r.canary, p_actor, p_reason,
        jsonb_build_object('rollout', p_rollout, 'from_bp', before, 'to_bp', p_share, 'fence', p_fence, 'generation', r.generation));
    RETURN r;
END
$$;

-- record_shadow keeps how a rollout's shadow step went. The same record again changes nothing.
CREATE FUNCTION record_shadow(p_service text, p_fence bigint, p_rollout text, p_record jsonb, p_actor jsonb)
    RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    known rollouts;
BEGIN
    PERFORM lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    SELECT * INTO known FROM rollouts WHERE id = p_rollout AND service = p_service;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'rollout % of % does not exist', p_rollout, p_service USING ERRCODE = 'RF404';
    END IF;
    IF known.shadow = p_record THEN
        RETURN;
    END IF;
    UPDATE rollouts SET shadow = p_record WHERE id = p_rollout;
    PERFORM append_ledger(p_service, 'shadow-judged', known.release, p_actor, p_record #>> '{verdict,reason}', p_record);
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION set_shadow, record_shadow FROM PUBLIC;
GRANT EXECUTE ON FUNCTION set_shadow, record_shadow TO refit_app;

-- +goose Down
DROP FUNCTION set_shadow, record_shadow;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION store_route(p routes) RETURNS routes
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    p.generation := p.generation + 1;
    p.lease := p.lease + 1;
    p.changed_at := clock_timestamp();
    p.renewed_at := p.changed_at;
    UPDATE routes SET generation = p.generation, stable = p.stable, previous = p.previous, canary = p.canary,
        share_bp = p.share_bp, rollout = p.rollout, step = p.step, lease = p.lease, band_key = p.band_key,
        changed_at = p.changed_at, renewed_at = p.renewed_at
    WHERE service = p.service;
    PERFORM pg_notify('refit_route', p.service || ' ' || p.generation);
    RETURN p;
END
$$;
-- +goose StatementEnd

DROP TABLE pair_scores;
ALTER TABLE rollouts DROP COLUMN shadow;
ALTER TABLE routes DROP COLUMN shadow_bp;
