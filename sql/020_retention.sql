-- What the clean-up of old rows could not do, and messages that it deletes from the outbox.
-- Locks: lanes whose messages were deleted, which whoever deletes has locked before.

-- `at` is from now on the last time that nothing failed; before the first, when the row was made.
ALTER TABLE retention_run ADD COLUMN IF NOT EXISTS tried_at   timestamptz;                    -- its last end; NULL: it never ran
ALTER TABLE retention_run ADD COLUMN IF NOT EXISTS failed     jsonb   NOT NULL DEFAULT '{}';    -- reasons by kind of rows
ALTER TABLE retention_run ADD COLUMN IF NOT EXISTS unfinished boolean NOT NULL DEFAULT false;   -- it left old rows to the next
UPDATE retention_run SET tried_at = at WHERE tried_at IS NULL;
INSERT INTO retention_run DEFAULT VALUES ON CONFLICT DO NOTHING;

-- The rows of a chat from which rows were deleted are not counted again, since many are deleted regularly. A count that
-- cannot be right is forgotten, and taken again when it is needed.
CREATE OR REPLACE FUNCTION recount_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE lane l SET accepted = CASE WHEN l.accepted >= g.n THEN l.accepted - g.n END
    FROM (SELECT bot_id, chat_id, count(*) AS n FROM gone GROUP BY bot_id, chat_id) g
    WHERE l.bot_id = g.bot_id AND l.chat_id = g.chat_id AND l.accepted IS NOT NULL;
    RETURN NULL;
END $$;
