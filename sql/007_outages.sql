-- A number whose provider cannot be reached, or serves nobody just now: its queue is kept and tried again with growing
-- pauses. The hold itself is held_until, as of every other hold.
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_since    timestamptz;                    -- NULL: there is none
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_seen     timestamptz;                    -- the last attempt that failed
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_code     text;                           -- network, http_502, 131000, …
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_reason   text;
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_pause    real    NOT NULL DEFAULT 0;     -- seconds before the next attempt
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS outage_reported boolean NOT NULL DEFAULT false; -- whether it lasted long enough to be told
