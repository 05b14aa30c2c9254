-- Pooled exposure credit: what gateways hand back, how many they are, and credit that ends with the lease.

-- +goose Up

-- Rows that change many times a second find room for their next version in their own page.
ALTER TABLE credit_pools SET (fillfactor = 30);
ALTER TABLE credit_draws SET (fillfactor = 50);
ALTER TABLE credit_draws ADD COLUMN given bigint NOT NULL DEFAULT 0;
-- When the lease was renewed last, by the database's clock.
ALTER TABLE routes ADD COLUMN renewed_at timestamptz NOT NULL DEFAULT clock_timestamp();
-- Gateways that share one pool are held to one bound; those of the release before had credit of their own.
ALTER TABLE gateways ADD COLUMN pooled boolean NOT NULL DEFAULT false;

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

-- lapsed says whether the gateways have let the lease of a route go (15 s). A clock that was set back counts as one,
-- too.
CREATE FUNCTION lapsed(p_renewed timestamptz) RETURNS boolean
    LANGUAGE sql SET search_path = public, pg_temp AS $$
    SELECT clock_timestamp() NOT BETWEEN p_renewed - interval '1 second' AND p_renewed + interval '15 seconds';
$$;

-- renew_lease takes all credit away where the lease had lapsed: it begins at 0.
CREATE OR REPLACE FUNCTION renew_lease(p_service text, p_fence bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r       routes;
    renewed bigint;
BEGIN
    r := lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    IF r.rollout <> '' AND lapsed(r.renewed_at) THEN
        PERFORM void_credit(p_service, r.rollout);
    END IF;
    UPDATE routes SET lease = lease + 1, renewed_at = clock_timestamp() WHERE service = p_service RETURNING lease INTO renewed;
    RETURN renewed;
END
$$;

-- draw_credit does the arithmetic of rollout.Pool under the pool's row lock. It stands beside the one of the release
-- before, which takes less. Without a share, or with a lease that has
-- lapsed, nothing is granted. Units of a gateway that was silent for two leases (30 s) are lost: it gave them up itself
-- after one. A gateway counts for 15 s.
CREATE FUNCTION draw_credit(p_service text, p_rollout text, p_gateway text, p_epoch bigint, p_earned bigint, p_given bigint,
                            p_held bigint, p_want bigint, p_cap bigint, p_base bigint,
                            OUT epoch bigint, OUT units bigint, OUT keep bigint, OUT total bigint, OUT gateways bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    pool   credit_pools;
    mine   credit_draws;
    others bigint;
    drawn  bigint;
    back   bigint;
BEGIN
    SELECT * INTO pool FROM credit_pools c WHERE c.service = p_service AND c.rollout = p_rollout FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'rollout % of % has no credit', p_rollout, p_service USING ERRCODE = 'RF404';
    END IF;
    epoch := pool.epoch; units := 0; keep := 0; total := 0; gateways := 0;
    IF p_epoch <> pool.epoch OR least(p_earned, p_given, p_held, p_want, p_cap, p_base) < 0 OR NOT EXISTS (
        SELECT FROM routes r WHERE r.service = p_service AND r.rollout = p_rollout AND r.share_bp > 0 AND NOT lapsed(r.renewed_at)) THEN
        RETURN;
    END IF;
    UPDATE credit_draws d SET drawn = 0
    WHERE d.service = p_service AND d.rollout = p_rollout AND d.gateway <> p_gateway AND d.drawn > 0
        AND d.seen_at < clock_timestamp() - interval '30 seconds';
    SELECT coalesce(sum(d.drawn), 0), 1 + count(*) FILTER (WHERE d.seen_at > clock_timestamp() - interval '15 seconds')
    INTO others, gateways FROM credit_draws d
    WHERE d.service = p_service AND d.rollout = p_rollout AND d.gateway <> p_gateway;
    SELECT * INTO mine FROM credit_draws d WHERE d.service = p_service AND d.rollout = p_rollout AND d.gateway = p_gateway;
    keep := least(coalesce(mine.drawn, 0), p_held);
    back := least(greatest(0, p_given - coalesce(mine.given, 0)), coalesce(mine.drawn, 0) - keep);
    drawn := 10000 * (others + keep);
    pool.level := least(pool.level + 10000 * back + greatest(0, p_earned - coalesce(mine.earned, 0)),
        greatest(0, least(p_cap, p_base + 25000 * (gateways - 1)) - drawn));
    total := pool.level + drawn;
    units := greatest(0, least(p_want, pool.level / 10000, greatest(1, total / gateways / 10000) - keep));
    UPDATE credit_pools c SET level = pool.level - 10000 * units WHERE c.service = p_service AND c.rollout = p_rollout;
    INSERT INTO credit_draws (service, rollout, gateway, drawn, earned, given, seen_at)
    VALUES (p_service, p_rollout, p_gateway, keep + units, p_earned, p_given, clock_timestamp())
    ON CONFLICT (service, rollout, gateway) DO UPDATE SET drawn = excluded.drawn, seen_at = excluded.seen_at,
        earned = greatest(credit_draws.earned, excluded.earned), given = greatest(credit_draws.given, excluded.given);
    IF units = 0 THEN
        -- What a crash of the database may then forget was a report only: totals bring it again with the next one.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION draw_credit(text, text, text, bigint, bigint, bigint, bigint, bigint, bigint, bigint), lapsed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION draw_credit(text, text, text, bigint, bigint, bigint, bigint, bigint, bigint, bigint) TO refit_app;

-- +goose Down
DROP FUNCTION draw_credit(text, text, text, bigint, bigint, bigint, bigint, bigint, bigint, bigint);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION store_route(p routes) RETURNS routes
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    p.generation := p.generation + 1;
    p.lease := p.lease + 1;
    p.changed_at := clock_timestamp();
    UPDATE routes SET generation = p.generation, stable = p.stable, previous = p.previous, canary = p.canary,
        share_bp = p.share_bp, rollout = p.rollout, step = p.step, lease = p.lease, band_key = p.band_key,
        changed_at = p.changed_at
    WHERE service = p.service;
    PERFORM pg_notify('refit_route', p.service || ' ' || p.generation);
    RETURN p;
END
$$;

CREATE OR REPLACE FUNCTION renew_lease(p_service text, p_fence bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    renewed bigint;
BEGIN
    PERFORM lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    UPDATE routes SET lease = lease + 1 WHERE service = p_service RETURNING lease INTO renewed;
    RETURN renewed;
END
$$;
-- +goose StatementEnd

DROP FUNCTION lapsed;
ALTER TABLE gateways DROP COLUMN pooled;
ALTER TABLE routes DROP COLUMN renewed_at;
ALTER TABLE credit_draws DROP COLUMN given;
ALTER TABLE credit_draws RESET (fillfactor);
ALTER TABLE credit_pools RESET (fillfactor);
