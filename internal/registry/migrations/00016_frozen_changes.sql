-- Whether a freeze holds a change is asked again in the transaction that makes the change: a freeze that begins between
-- a worker's look at the calendar and its change holds the share as it is. Lowering a share and rolling back never ask.

-- +goose Up

-- +goose StatementBegin
-- holding_freeze says what holds a change that gives the rollout's canary p_share basis points (10000: all), or, without a
-- rollout, gives a service its first stable release; empty: nothing does, or the change was made before. Whoever calls it makes the
-- change in the same transaction: freezes are opened under the service's lock, and declarations applied under the route's,
-- and both are held from here. Windows of the calendar were read by the caller, in declaration p_version; none of them begins
-- before p_until. Before p_glass nothing holds: somebody broke the glass.
CREATE FUNCTION holding_freeze(p_service text, p_rollout text, p_share integer, p_levers text[], p_version integer,
                               p_until timestamptz, p_glass timestamptz)
    RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    r      routes;
    held   text;
    newest integer;
BEGIN
    r := lock_route(p_service);
    IF p_rollout = '' AND r.stable <> '' OR p_rollout <> '' AND (r.rollout <> p_rollout OR p_share <= r.share_bp) THEN
        RETURN '';
    END IF;
    SELECT version INTO newest FROM services WHERE name = p_service FOR UPDATE;
    IF clock_timestamp() < p_glass THEN
        RETURN '';
    END IF;
    SELECT 'incident ' || f.name INTO held FROM freezes f
    WHERE f.service = p_service AND f.closed_at IS NULL AND (f.ends_at IS NULL OR f.ends_at > clock_timestamp())
        AND (f.levers = '{}' OR p_levers = '{}' OR f.levers && p_levers)
    ORDER BY f.ordinal LIMIT 1;
    IF FOUND THEN
        RETURN held;
    END IF;
    IF newest IS DISTINCT FROM p_version THEN
        RETURN 'declaration version ' || newest || ', which is newer than the calendar that was read';
    END IF;
    IF clock_timestamp() >= p_until THEN
        RETURN 'a window of the calendar';
    END IF;
    RETURN '';
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION holding_freeze FROM PUBLIC;
GRANT EXECUTE ON FUNCTION holding_freeze TO refit_app;

-- +goose Down
DROP FUNCTION holding_freeze;
