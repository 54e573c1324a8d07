-- Counters of each process that survive restarts, and rows in process_metrics once a minute. An instance reports what
-- it counted since its start; the difference to its row of before is added to the totals.

CREATE TABLE IF NOT EXISTS process_totals (
    process_name varchar(20) PRIMARY KEY,
    processed    bigint      NOT NULL DEFAULT 0,
    sent         bigint      NOT NULL DEFAULT 0,
    received     bigint      NOT NULL DEFAULT 0,
    errors       bigint      NOT NULL DEFAULT 0,
    measured_at  timestamptz NOT NULL DEFAULT now()   -- when rows were last added to process_metrics
);

ALTER TABLE process_instances ADD COLUMN IF NOT EXISTS run text;  -- one start of the instance: its counts begin at 0
ALTER TABLE process_instances ADD COLUMN IF NOT EXISTS messages_sent bigint NOT NULL DEFAULT 0;
ALTER TABLE process_instances ADD COLUMN IF NOT EXISTS messages_received bigint NOT NULL DEFAULT 0;
ALTER TABLE process_instances ADD COLUMN IF NOT EXISTS responses integer NOT NULL DEFAULT 0;  -- in the last minute
ALTER TABLE process_instances ADD COLUMN IF NOT EXISTS response_ms numeric NOT NULL DEFAULT 0;  -- all of them together
