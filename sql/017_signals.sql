-- What an instance reports beside its columns, such as its pool of connections, and what the clean-up did.

ALTER TABLE process_instances ADD COLUMN IF NOT EXISTS figures jsonb NOT NULL DEFAULT '{}';

ALTER TABLE process_totals ADD COLUMN IF NOT EXISTS failed bigint NOT NULL DEFAULT 0;  -- messages

CREATE TABLE IF NOT EXISTS retention_run (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),  -- one row: the last run
    at         timestamptz NOT NULL DEFAULT now(),
    seconds    real        NOT NULL DEFAULT 0,                    -- it took
    deleted    jsonb       NOT NULL DEFAULT '{}',                 -- rows by their kind; those without any are left out
    host       text        NOT NULL DEFAULT ''
);
