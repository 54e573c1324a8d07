-- Copies of accepted messages that were sent into simulators, to compare their outcomes. No worker reads this table, and
-- a copy is in no outbox, history, quota or event.

CREATE TABLE IF NOT EXISTS trial_copy (
    message_id uuid        PRIMARY KEY,                    -- outbox.message_id of the original
    company_id text        NOT NULL,
    kind       text        NOT NULL,
    copied_at  timestamptz NOT NULL DEFAULT now(),
    outcome    text        NOT NULL CHECK (outcome IN ('sent', 'failed', 'unknown', 'not_copied')),
    code       text        NOT NULL DEFAULT '',            -- of the error
    reason     text        NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS trial_copy_copied_at ON trial_copy (copied_at);
