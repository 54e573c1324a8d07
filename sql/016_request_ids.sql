-- The request that each message came with, so that its log lines can be found: `bisnesctl logs --message`.

ALTER TABLE outbox ADD COLUMN IF NOT EXISTS request_id text;
