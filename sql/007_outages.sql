-- A number whose provider cannot be reached, or serves nobody just now: its queue is kept and tried again with growing
-- pauses. The hold itself is held_until, as of every other hold.
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_since    timestamptz;                    -- NULL: there is none
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_seen     timestamptz;                    -- the last attempt that failed
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_code     text;                           -- network, http_502, 131000, …
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_reason   text;
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_pause    real    NOT NULL DEFAULT 0;     -- seconds before the next attempt
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_reported boolean NOT NULL DEFAULT false; -- whether it lasted long enough to be told

-- Where a chat's lane goes on when an older message is queued once more: its `done` then. While another message is in hand
-- (`head`), the lane's `done` is below 0: minus the first message to be looked at once that one's outcome is recorded.
CREATE OR REPLACE FUNCTION reopened_at(done bigint, head bigint, first bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN done < 0 THEN -LEAST(-done, first) WHEN head IS NOT NULL THEN -LEAST(head, first)
        ELSE LEAST(done, first - 1) END
$$;

-- Messages whose outcome was open at some time; the outbox says whether it still is. A table of its own, since with an
-- index on outbox.status no outcome could be written within its page (HOT).
CREATE TABLE IF NOT EXISTS unknown_message (
    message_id uuid        PRIMARY KEY,              -- outbox.message_id
    since      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS unknown_message_since ON unknown_message (since);
INSERT INTO unknown_message (message_id, since)
SELECT message_id, updated_at FROM outbox WHERE status = 'unknown' ON CONFLICT DO NOTHING;
