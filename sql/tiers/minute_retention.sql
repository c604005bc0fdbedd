-- TimescaleDB Community: the refresh policies of the rollups and the retention policy of the minutes, which belong
-- together: a refresh that reached back to dropped minutes would remove their rollups.
--
-- Without a retention, and as long as no minutes were dropped, refreshes reach back to the beginning. Otherwise they
-- stop a day short of the retention, and never reach back to minutes that were dropped before. Late minutes older than
-- that are for `tickstock db refresh`.
DO $$
DECLARE
    retention    INTERVAL := nullif(current_setting('tickstock.minute_retention'), '')::INTERVAL;
    mark         TIMESTAMPTZ := (SELECT dropped_before FROM minutes_dropped);
    reach        INTERVAL := date_trunc('hour', least(retention - INTERVAL '1 day', now() - mark));
    wanted       RECORD;
    found        RECORD;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES ('ohlcv_5min', INTERVAL '5 minutes'), ('ohlcv_15min', INTERVAL '15 minutes'), ('ohlcv_1h', INTERVAL '1 hour'))
                  AS rollups (name, width)
    LOOP
        SELECT config, (config ->> 'start_offset')::INTERVAL AS reach INTO found FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_refresh_continuous_aggregate' AND hypertable_schema = 'tier' AND hypertable_name = wanted.name;
        -- An older policy that reaches less far than the mark is right as well; a new one is worth it from a day on.
        CONTINUE WHEN found.config IS NOT NULL
            AND (found.reach IS NOT DISTINCT FROM reach OR (found.reach <= reach AND found.reach > reach - INTERVAL '1 day'));
        PERFORM remove_continuous_aggregate_policy(format('tier.%I', wanted.name)::REGCLASS, if_exists => TRUE);
        -- A window must hold two buckets; where minutes were dropped up to now, the first refresh waits for them.
        PERFORM add_continuous_aggregate_policy(
            format('tier.%I', wanted.name)::REGCLASS,
            start_offset => CASE WHEN reach < 3 * wanted.width THEN 3 * wanted.width ELSE reach END, end_offset => wanted.width,
            schedule_interval => INTERVAL '1 hour',
            initial_start => CASE WHEN reach < 3 * wanted.width THEN now() + 3 * wanted.width END
        );
    END LOOP;

    SELECT (config ->> 'drop_after')::INTERVAL AS retention INTO found FROM timescaledb_information.jobs
    WHERE proc_name = 'policy_retention' AND hypertable_schema = 'public' AND hypertable_name = 'ohlcv_1min';
    IF found.retention IS DISTINCT FROM retention THEN
        PERFORM remove_retention_policy('public.ohlcv_1min', if_exists => TRUE);
        IF retention IS NOT NULL THEN
            PERFORM add_retention_policy(
                'public.ohlcv_1min', drop_after => retention, initial_start => now() + INTERVAL '1 day'
            );
        END IF;
    END IF;
END
$$;
