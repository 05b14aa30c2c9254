-- The functions that change what serves. Each one locks the service's route, checks the fence, writes, counts
-- the generation, appends to the ledger and notifies, in the caller's one transaction. Their errors carry
-- SQLSTATEs of class RF: RF400 invalid, RF403 refused, RF404 not found, RF409 conflict, RF412 fenced, RF423 busy.

-- +goose Up

-- +goose StatementBegin
CREATE FUNCTION append_ledger(p_service text, p_kind text, p_subject text, p_actor jsonb, p_reason text, p_evidence jsonb)
    RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
    INSERT INTO ledger (service, kind, subject, actor, via, reason, evidence)
    VALUES (p_service, p_kind, p_subject, coalesce(p_actor ->> 'name', ''), coalesce(p_actor ->> 'via', ''),
            coalesce(p_reason, ''), p_evidence);
$$;

CREATE FUNCTION apply_service(p_service text, p_digest text, p_declaration json, p_actor jsonb,
                              OUT version integer, OUT changed boolean, OUT applied_at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    newest service_versions;
BEGIN
    INSERT INTO services (name) VALUES (p_service) ON CONFLICT DO NOTHING;
    INSERT INTO routes (service) VALUES (p_service) ON CONFLICT DO NOTHING;
    PERFORM FROM routes r WHERE r.service = p_service FOR UPDATE;
    SELECT v.* INTO newest FROM service_versions v WHERE v.service = p_service ORDER BY v.version DESC LIMIT 1;
    IF newest.digest = p_digest THEN
        version := newest.version; changed := false; applied_at := newest.applied_at;
        RETURN;
    END IF;
    version := coalesce(newest.version, 0) + 1;
    changed := true;
    INSERT INTO service_versions (service, version, digest, declaration, applied_by)
    VALUES (p_service, apply_service.version, p_digest, p_declaration, p_actor)
    RETURNING service_versions.applied_at INTO applied_at;
    UPDATE services s SET version = apply_service.version WHERE s.name = p_service;
    PERFORM append_ledger(p_service, 'service-applied', p_digest, p_actor, '', jsonb_build_object('version', version));
END
$$;

CREATE FUNCTION lock_route(p_service text) RETURNS routes
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    r routes;
BEGIN
    SELECT * INTO r FROM routes WHERE service = p_service FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'service % is not declared', p_service USING ERRCODE = 'RF404';
    END IF;
    RETURN r;
END
$$;

-- next_fence is called under the route's lock.
CREATE FUNCTION next_fence(p_service text, p_loop text) RETURNS bigint
    LANGUAGE sql SET search_path = public, pg_temp AS $$
    INSERT INTO fences AS f (service, loop, fence) VALUES (p_service, p_loop, 1)
    ON CONFLICT (service, loop) DO UPDATE SET fence = f.fence + 1
    RETURNING fence;
$$;

-- check_fence is called under the route's lock. A holder whose claim is closed is as harmless as an older one.
CREATE FUNCTION check_fence(p_service text, p_fence bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    newest bigint;
BEGIN
    SELECT fence INTO newest FROM fences WHERE service = p_service AND loop = 'promotion';
    IF p_fence > coalesce(newest, 0) OR p_fence <= 0 THEN
        RAISE EXCEPTION 'fence % of % was never given out', p_fence, p_service USING ERRCODE = 'RF400';
    END IF;
    IF p_fence < newest THEN
        RAISE EXCEPTION 'fence % of % is older than %: this holder may change nothing any more', p_fence, p_service, newest
            USING ERRCODE = 'RF412', DETAIL = jsonb_build_object('fence', p_fence::text, 'newest', newest::text)::text;
    END IF;
    IF NOT EXISTS (SELECT FROM claims WHERE service = p_service AND loop = 'promotion' AND fence = p_fence AND closed_at IS NULL) THEN
        RAISE EXCEPTION 'the claim of % with fence % was given back', p_service, p_fence
            USING ERRCODE = 'RF412', DETAIL = jsonb_build_object('fence', p_fence::text)::text;
    END IF;
END
$$;

-- store_route writes the changed route under the lock and tells who listens.
CREATE FUNCTION store_route(p routes) RETURNS routes
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

CREATE FUNCTION void_credit(p_service text, p_rollout text) RETURNS void
    LANGUAGE sql SET search_path = public, pg_temp AS $$
    UPDATE credit_pools SET epoch = epoch + 1, level = 0 WHERE service = p_service AND rollout = p_rollout;
    DELETE FROM credit_draws WHERE service = p_service AND rollout = p_rollout;
$$;

-- end_canary takes the canary off the route and ends its rollout.
CREATE FUNCTION end_canary(p routes, p_phase text, p_reason text, p_touched jsonb) RETURNS routes
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE rollouts SET phase = p_phase, reason = coalesce(p_reason, ''), ended_at = clock_timestamp(),
        touched = coalesce(p_touched, touched)
    WHERE id = p.rollout;
    PERFORM void_credit(p.service, p.rollout);
    p.canary := ''; p.share_bp := 0; p.rollout := ''; p.step := 0; p.band_key := '';
    RETURN p;
END
$$;

CREATE FUNCTION take_claim(p_service text, p_loop text, p_namespace text, p_workflow text, p_first_run text, p_actor jsonb)
    RETURNS claims LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held claims;
BEGIN
    PERFORM lock_route(p_service);
    SELECT * INTO held FROM claims WHERE service = p_service AND loop = p_loop AND closed_at IS NULL;
    IF FOUND THEN
        IF (held.namespace, held.workflow_id, held.first_run_id) = (p_namespace, p_workflow, p_first_run) THEN
            RETURN held;
        END IF;
        RAISE EXCEPTION '% of % is held by workflow % (first run %) since %', p_loop, p_service, held.workflow_id,
            held.first_run_id, to_char(held.claimed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            USING ERRCODE = 'RF423', DETAIL = jsonb_build_object(
                'namespace', held.namespace, 'workflow_id', held.workflow_id, 'first_run_id', held.first_run_id,
                'fence', held.fence::text,
                'claimed_at', to_char(held.claimed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text;
    END IF;
    INSERT INTO claims (service, loop, fence, namespace, workflow_id, first_run_id)
    VALUES (p_service, p_loop, next_fence(p_service, p_loop), p_namespace, p_workflow, p_first_run)
    RETURNING * INTO held;
    PERFORM append_ledger(p_service, 'claim-taken', p_loop, p_actor, '', jsonb_build_object('fence', held.fence, 'workflow_id', p_workflow));
    RETURN held;
END
$$;

CREATE FUNCTION take_over(p_service text, p_loop text, p_from bigint, p_namespace text, p_workflow text, p_first_run text,
                          p_actor jsonb, p_reason text)
    RETURNS claims LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r    routes;
    held claims;
BEGIN
    r := lock_route(p_service);
    SELECT * INTO held FROM claims WHERE service = p_service AND loop = p_loop AND closed_at IS NULL;
    IF FOUND AND (held.namespace, held.workflow_id, held.first_run_id) = (p_namespace, p_workflow, p_first_run) THEN
        RETURN held;
    END IF;
    IF held.fence IS DISTINCT FROM p_from THEN
        RAISE EXCEPTION '% of % is not held with fence % any more', p_loop, p_service, p_from
            USING ERRCODE = 'RF423', DETAIL = jsonb_build_object('fence', coalesce(held.fence, 0)::text,
                'workflow_id', coalesce(held.workflow_id, ''), 'first_run_id', coalesce(held.first_run_id, ''),
                'namespace', coalesce(held.namespace, ''))::text;
    END IF;
    IF p_loop = 'promotion' AND r.rollout <> '' THEN
        PERFORM append_ledger(p_service, 'rolled-back', r.canary, p_actor, p_reason,
            jsonb_build_object('rollout', r.rollout, 'share_bp', r.share_bp, 'fence', p_from));
        r := store_route(end_canary(r, 'rolled-back', p_reason, NULL));
    END IF;
    UPDATE claims SET closed_at = clock_timestamp() WHERE service = p_service AND loop = p_loop AND fence = p_from;
    INSERT INTO claims (service, loop, fence, namespace, workflow_id, first_run_id)
    VALUES (p_service, p_loop, next_fence(p_service, p_loop), p_namespace, p_workflow, p_first_run)
    RETURNING * INTO held;
    PERFORM append_ledger(p_service, 'claim-taken-over', p_loop, p_actor, p_reason,
        jsonb_build_object('from', p_from, 'fence', held.fence, 'workflow_id', p_workflow));
    RETURN held;
END
$$;

-- release_claim never leaves a canary behind: nobody would hold its lease.
CREATE FUNCTION release_claim(p_service text, p_loop text, p_fence bigint, p_actor jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r routes;
BEGIN
    r := lock_route(p_service);
    UPDATE claims SET closed_at = clock_timestamp()
    WHERE service = p_service AND loop = p_loop AND fence = p_fence AND closed_at IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF p_loop = 'promotion' AND r.rollout <> '' AND EXISTS (SELECT FROM rollouts WHERE id = r.rollout AND fence = p_fence) THEN
        PERFORM append_ledger(p_service, 'rolled-back', r.canary, p_actor, 'the claim was given back',
            jsonb_build_object('rollout', r.rollout, 'share_bp', r.share_bp, 'fence', p_fence));
        r := store_route(end_canary(r, 'rolled-back', 'the claim was given back', NULL));
    END IF;
    PERFORM append_ledger(p_service, 'claim-released', p_loop, p_actor, '', jsonb_build_object('fence', p_fence));
END
$$;

CREATE FUNCTION set_first_stable(p_service text, p_fence bigint, p_release text, p_actor jsonb, p_reason text)
    RETURNS routes LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r routes;
BEGIN
    r := lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    IF r.stable = p_release THEN
        RETURN r;
    END IF;
    IF r.stable <> '' THEN
        RAISE EXCEPTION '% has a stable release already; a candidate goes through a rollout', p_service USING ERRCODE = 'RF403';
    END IF;
    IF NOT EXISTS (SELECT FROM releases WHERE service = p_service AND id = p_release) THEN
        RAISE EXCEPTION 'release % of % does not exist', p_release, p_service USING ERRCODE = 'RF404';
    END IF;
    r.stable := p_release;
    r := store_route(r);
    PERFORM append_ledger(p_service, 'promoted', p_release, p_actor, p_reason,
        jsonb_build_object('fence', p_fence, 'generation', r.generation, 'first', true));
    RETURN r;
END
$$;

CREATE FUNCTION start_rollout(p_service text, p_fence bigint, p_id text, p_release text, p_owner jsonb, p_band_key bytea, p_actor jsonb)
    RETURNS routes LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r     routes;
    known rollouts;
BEGIN
    r := lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    SELECT * INTO known FROM rollouts WHERE id = p_id;
    IF FOUND THEN
        IF (known.service, known.release, known.phase) = (p_service, p_release, 'running') THEN
            RETURN r;
        END IF;
        RAISE EXCEPTION 'rollout % of % exists already (release %, %)', p_id, known.service, left(known.release, 12), known.phase
            USING ERRCODE = 'RF409';
    END IF;
    IF r.stable = '' OR r.stable = p_release THEN
        RAISE EXCEPTION '%', CASE WHEN r.stable = '' THEN p_service || ' has no stable release to compare with'
            ELSE 'release ' || left(p_release, 12) || ' is stable already' END USING ERRCODE = 'RF403';
    END IF;
    IF r.rollout <> '' THEN
        RAISE EXCEPTION 'rollout % of % is in flight', r.rollout, p_service USING ERRCODE = 'RF409';
    END IF;
    IF NOT EXISTS (SELECT FROM releases WHERE service = p_service AND id = p_release) THEN
        RAISE EXCEPTION 'release % of % does not exist', p_release, p_service USING ERRCODE = 'RF404';
    END IF;
    INSERT INTO rollouts (id, service, release, baseline, owner, fence, phase, started_by)
    VALUES (p_id, p_service, p_release, r.stable, p_owner, p_fence, 'running', p_actor);
    INSERT INTO credit_pools (service, rollout) VALUES (p_service, p_id) ON CONFLICT DO NOTHING;
    r.canary := p_release; r.share_bp := 0; r.rollout := p_id; r.step := 0; r.band_key := p_band_key;
    r := store_route(r);
    PERFORM append_ledger(p_service, 'rollout-started', p_release, p_actor, '',
        jsonb_build_object('rollout', p_id, 'baseline', r.stable, 'fence', p_fence, 'generation', r.generation));
    RETURN r;
END
$$;

-- set_share also renews the lease, through store_route: a fresh share starts with a whole lease.
CREATE FUNCTION set_share(p_service text, p_fence bigint, p_rollout text, p_step integer, p_share integer,
                          p_actor jsonb, p_reason text, p_evidence jsonb)
    RETURNS routes LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r      routes;
    before integer;
BEGIN
    r := lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    IF p_share NOT BETWEEN 0 AND 9999 OR p_step < 0 THEN
        RAISE EXCEPTION 'share % basis points at step %: give 0 to 9999 and a step from 0', p_share, p_step USING ERRCODE = 'RF400';
    END IF;
    IF r.rollout <> p_rollout OR p_rollout = '' THEN
        RAISE EXCEPTION 'rollout % of % is not in flight', p_rollout, p_service USING ERRCODE = 'RF412';
    END IF;
    IF (r.share_bp, r.step) = (p_share, p_step) THEN
        RETURN r;
    END IF;
    before := r.share_bp;
    IF p_share < before THEN
        PERFORM void_credit(p_service, p_rollout);
    END IF;
    r.share_bp := p_share; r.step := p_step;
    r := store_route(r);
    PERFORM append_ledger(p_service, 'share-changed', r.canary, p_actor, p_reason,
        jsonb_build_object('rollout', p_rollout, 'step', p_step, 'from_bp', before, 'to_bp', p_share, 'fence', p_fence,
            'generation', r.generation) || CASE WHEN p_evidence IS NULL THEN '{}' ELSE jsonb_build_object('evidence', p_evidence) END);
    RETURN r;
END
$$;

CREATE FUNCTION renew_lease(p_service text, p_fence bigint) RETURNS bigint
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

CREATE FUNCTION record_step(p_service text, p_fence bigint, p_rollout text, p_step integer, p_record jsonb, p_actor jsonb)
    RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    candidate text;
    stored    jsonb;
BEGIN
    PERFORM lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    SELECT release INTO candidate FROM rollouts WHERE id = p_rollout AND service = p_service;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'rollout % of % does not exist', p_rollout, p_service USING ERRCODE = 'RF404';
    END IF;
    SELECT record INTO stored FROM rollout_steps WHERE rollout = p_rollout AND step = p_step;
    IF stored = p_record THEN
        RETURN;
    END IF;
    INSERT INTO rollout_steps (rollout, step, record) VALUES (p_rollout, p_step, p_record)
    ON CONFLICT (rollout, step) DO UPDATE SET record = excluded.record;
    PERFORM append_ledger(p_service, 'step-judged', candidate, p_actor, p_record #>> '{verdict,reason}', p_record);
END
$$;

CREATE FUNCTION promote(p_service text, p_fence bigint, p_rollout text, p_actor jsonb, p_reason text, p_evidence jsonb)
    RETURNS routes LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r        routes;
    promoted text;
    known    rollouts;
BEGIN
    r := lock_route(p_service);
    PERFORM check_fence(p_service, p_fence);
    SELECT * INTO known FROM rollouts WHERE id = p_rollout AND service = p_service;
    IF known.phase = 'promoted' THEN
        RETURN r;
    END IF;
    IF r.rollout <> p_rollout OR p_rollout = '' THEN
        RAISE EXCEPTION 'rollout % of % is not in flight', p_rollout, p_service USING ERRCODE = 'RF412';
    END IF;
    promoted := r.canary;
    r.previous := r.stable;
    r.stable := promoted;
    r := store_route(end_canary(r, 'promoted', p_reason, NULL));
    PERFORM append_ledger(p_service, 'promoted', promoted, p_actor, p_reason,
        jsonb_build_object('rollout', p_rollout, 'previous', r.previous, 'fence', p_fence, 'generation', r.generation)
            || CASE WHEN p_evidence IS NULL THEN '{}' ELSE jsonb_build_object('evidence', p_evidence) END);
    RETURN r;
END
$$;

-- roll_back with fence 0 is the direct way: it takes a new fence, so that a promotion in flight can change
-- nothing any more. With a canary out the canary goes; without one stable and previous change places. A fenced
-- holder that names its rollout only ever ends that rollout.
CREATE FUNCTION roll_back(p_service text, p_fence bigint, p_rollout text, p_actor jsonb, p_reason text, p_evidence jsonb,
                          p_touched jsonb, p_invalid boolean, OUT route routes, OUT fence bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    gone    text;
    rollout text;
BEGIN
    route := lock_route(p_service);
    IF p_fence = 0 THEN
        fence := next_fence(p_service, 'promotion');
    ELSE
        PERFORM check_fence(p_service, p_fence);
        fence := p_fence;
        IF p_rollout <> '' AND route.rollout <> p_rollout THEN
            UPDATE rollouts o SET touched = p_touched WHERE o.id = p_rollout AND o.touched IS NULL AND p_touched IS NOT NULL;
            RETURN;
        END IF;
    END IF;
    rollout := route.rollout;
    IF rollout <> '' THEN
        gone := route.canary;
        route := end_canary(route, CASE WHEN p_invalid THEN 'invalid' ELSE 'rolled-back' END, p_reason, p_touched);
    ELSIF route.previous = '' THEN
        RAISE EXCEPTION '% has no release to go back to', p_service USING ERRCODE = 'RF403';
    ELSE
        gone := route.stable;
        route.stable := route.previous;
        route.previous := gone;
    END IF;
    route := store_route(route);
    PERFORM append_ledger(p_service, 'rolled-back', gone, p_actor, p_reason,
        jsonb_build_object('rollout', rollout, 'stable', route.stable, 'fence', fence, 'generation', route.generation)
            || CASE WHEN p_touched IS NULL THEN '{}' ELSE jsonb_build_object('touched', p_touched) END
            || CASE WHEN p_evidence IS NULL THEN '{}' ELSE jsonb_build_object('evidence', p_evidence) END);
END
$$;

-- roll_back_direct is all that the role refit_rollback may do.
CREATE FUNCTION roll_back_direct(p_service text, p_actor text, p_reason text, OUT route routes, OUT fence bigint)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT * FROM roll_back(p_service, 0, '', jsonb_build_object('name', p_actor, 'via', 'direct'), p_reason, NULL, NULL, false);
$$;

-- draw_credit does the arithmetic of rollout.Pool under the pool's row lock. Without a share nothing is granted.
-- Units of a gateway that was silent for a lease (15 s) are lost.
CREATE FUNCTION draw_credit(p_service text, p_rollout text, p_gateway text, p_epoch bigint, p_earned bigint, p_held bigint,
                            p_want bigint, p_cap bigint, OUT epoch bigint, OUT units bigint, OUT keep bigint, OUT total bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    pool   credit_pools;
    mine   credit_draws;
    others bigint;
BEGIN
    SELECT * INTO pool FROM credit_pools c WHERE c.service = p_service AND c.rollout = p_rollout FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'rollout % of % has no credit', p_rollout, p_service USING ERRCODE = 'RF404';
    END IF;
    epoch := pool.epoch; units := 0; keep := 0; total := 0;
    IF p_epoch <> pool.epoch OR p_earned < 0 OR p_held < 0 OR p_want < 0 OR p_cap < 0 OR NOT EXISTS (
        SELECT FROM routes r WHERE r.service = p_service AND r.rollout = p_rollout AND r.share_bp > 0) THEN
        RETURN;
    END IF;
    UPDATE credit_draws d SET drawn = 0
    WHERE d.service = p_service AND d.rollout = p_rollout AND d.gateway <> p_gateway AND d.seen_at < clock_timestamp() - interval '15 seconds';
    SELECT * INTO mine FROM credit_draws d WHERE d.service = p_service AND d.rollout = p_rollout AND d.gateway = p_gateway;
    SELECT coalesce(sum(d.drawn), 0) INTO others FROM credit_draws d
    WHERE d.service = p_service AND d.rollout = p_rollout AND d.gateway <> p_gateway;
    keep := least(coalesce(mine.drawn, 0), p_held);
    pool.level := least(pool.level + greatest(0, p_earned - coalesce(mine.earned, 0)), greatest(0, p_cap - 10000 * (others + keep)));
    units := least(p_want, pool.level / 10000);
    pool.level := pool.level - 10000 * units;
    total := pool.level + 10000 * (others + keep + units);
    UPDATE credit_pools c SET level = pool.level WHERE c.service = p_service AND c.rollout = p_rollout;
    INSERT INTO credit_draws (service, rollout, gateway, drawn, earned, seen_at)
    VALUES (p_service, p_rollout, p_gateway, keep + units, p_earned, clock_timestamp())
    ON CONFLICT (service, rollout, gateway) DO UPDATE
        SET drawn = excluded.drawn, earned = greatest(credit_draws.earned, excluded.earned), seen_at = excluded.seen_at;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apply_service, take_claim, take_over, release_claim, set_first_stable, start_rollout, set_share,
    renew_lease, record_step, promote, roll_back, draw_credit TO refit_app;
GRANT EXECUTE ON FUNCTION roll_back_direct TO refit_rollback;

-- +goose Down
DROP FUNCTION draw_credit, roll_back_direct, roll_back, promote, record_step, renew_lease, set_share, start_rollout,
    set_first_stable, release_claim, take_over, take_claim, end_canary, void_credit, store_route, check_fence, next_fence,
    lock_route, apply_service, append_ledger;
