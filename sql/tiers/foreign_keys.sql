-- Every tier: a signal's pattern cannot be removed. TimescaleDB can hold a foreign key to a hypertable from 2.16 on.
DO $$
DECLARE
    installed    INTEGER[];
BEGIN
    IF to_regclass('public.signals') IS NULL OR to_regclass('public.patterns') IS NULL
       OR EXISTS (SELECT FROM pg_constraint WHERE conname = 'fk_signals_patterns'
                  AND conrelid = to_regclass('public.signals')) THEN
        RETURN;
    END IF;
    SELECT string_to_array(substring(extversion FROM '^\d+\.\d+'), '.')::INTEGER[] INTO installed
    FROM pg_extension WHERE extname = 'timescaledb';
    IF installed < ARRAY[2, 16] THEN
        RETURN;
    END IF;
    ALTER TABLE public.signals ADD CONSTRAINT fk_signals_patterns
        FOREIGN KEY (symbol, timeframe, pattern_timestamp, pattern, variant) REFERENCES public.patterns ON DELETE RESTRICT;
END
$$;
