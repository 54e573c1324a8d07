-- The server's clock may be set back: by its time service, or by a failover to a machine with another clock. What was
-- to happen in five seconds would then happen in an hour. The latest time that was seen is kept, so that the step is
-- noticed, by whichever process looks first and also after a restart of all of them, and repaired once.

CREATE TABLE IF NOT EXISTS clock_seen (
    one boolean     PRIMARY KEY DEFAULT true CHECK (one),  -- one row
    at  timestamptz NOT NULL
);
INSERT INTO clock_seen (at) VALUES (now()) ON CONFLICT DO NOTHING;

-- Where the clock was set back by two seconds or more, move all that is to happen in the future back as well, so that
-- it is as far away as when the clock was seen last. Returns the seconds, 0 where nothing was to be done.
-- A lease is cut to `lease`, the longest that is given: whoever took one meanwhile keeps it.
-- Locks are taken in this order: lanes, webhooks, their lanes, bot_pace, the rest.
CREATE OR REPLACE FUNCTION repair_clock(lease interval) RETURNS float LANGUAGE plpgsql AS $$
DECLARE
    latest  timestamptz;
    present timestamptz;
    back    interval;
BEGIN
    SELECT at INTO latest FROM clock_seen FOR UPDATE SKIP LOCKED;
    present := clock_timestamp();
    back := latest - present;
    IF back IS NULL OR back < interval '2 seconds' THEN
        RETURN 0;
    END IF;
    PERFORM FROM lane WHERE pending > 0 AND due > present ORDER BY bot_id, chat_id FOR UPDATE;
    UPDATE lane SET due = due - back WHERE pending > 0 AND claim IS NULL AND due > present;
    UPDATE lane SET due = present + lease WHERE claim IS NOT NULL AND due > present + lease;
    PERFORM FROM webhook WHERE paused_until > present OR previous_until > present ORDER BY id FOR NO KEY UPDATE;
    UPDATE webhook SET paused_until = paused_until - back WHERE paused_until > present;
    UPDATE webhook SET previous_until = previous_until - back WHERE previous_until > present;
    PERFORM FROM webhook_lane WHERE pending > 0 AND due > present ORDER BY webhook_id, chat_id FOR UPDATE;
    UPDATE webhook_lane SET due = CASE WHEN claim IS NULL THEN due - back ELSE LEAST(due, present + lease) END
        WHERE pending > 0 AND due > present;
    PERFORM FROM bot_pace ORDER BY bot_id FOR UPDATE;
    UPDATE bot_pace SET free_at = LEAST(free_at, present), slow_until = slow_until - back,
        held_until = CASE WHEN held_until > present THEN held_until - back ELSE held_until END
        WHERE free_at > present OR slow_until > present OR held_until > present AND isfinite(held_until);
    UPDATE bot_pace SET outage_since = LEAST(outage_since, present), outage_seen = LEAST(outage_seen, present)
        WHERE outage_since > present OR outage_seen > present;
    UPDATE media_download SET due = due - back WHERE due > present AND isfinite(due);
    UPDATE media_download SET tried_at = present WHERE tried_at > present;
    UPDATE bot_check SET due = due - back WHERE due > present AND isfinite(due);
    UPDATE wa_block SET until = until - back WHERE until > present AND isfinite(until);
    UPDATE wa_session SET qr_expires_at = qr_expires_at - back WHERE qr_expires_at > present;
    UPDATE wa_session SET pairing_expires_at = pairing_expires_at - back WHERE pairing_expires_at > present;
    -- What happened cannot lie in the future: else a process that has ended would seem to live, and the like.
    UPDATE process_instances SET last_heartbeat = present WHERE last_heartbeat > present;
    UPDATE process_health SET last_heartbeat = present WHERE last_heartbeat > present;
    UPDATE wa_command SET created_at = LEAST(created_at, present), done_at = LEAST(done_at, present)
        WHERE created_at > present OR done_at > present;
    UPDATE wa_number SET checked_at = present WHERE checked_at > present;
    UPDATE clock_seen SET at = clock_timestamp();
    RETURN extract(epoch FROM back);
END $$;
