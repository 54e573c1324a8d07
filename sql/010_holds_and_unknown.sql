-- Holds that end by themselves, and messages whose outcome an operator decides.

-- `hold_code` names the cause of a hold that the provider, or a check of the number, has
-- to take back: an error code such as 190, or the provider's word, such as account_update.DISABLED_UPDATE. A good update
-- and a successful check end it. A hold without a code is short (a throttled number, an outage) or ends by a command.
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS hold_code   text;
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS held_at     timestamptz;                 -- when the hold with that code began
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS lifted_code text;                        -- the cause that was lifted last
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS lifted_at   timestamptz;
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS hold_count  integer NOT NULL DEFAULT 0;  -- how often it came back since then

-- The version before knew no causes. A number whose linking is not finished stays held until it is named.
UPDATE bot_pace SET hold_code = 'earlier', held_at = now()
WHERE held_until = 'infinity' AND hold_code IS NULL AND process_name = 'meta'
    AND held_reason IS DISTINCT FROM 'its linking is not finished: name its number again';

-- End a bot's hold, whatever its cause: it continues with what waits for it.
CREATE OR REPLACE FUNCTION release_bot(bot integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM lane WHERE bot_id = bot AND pending > 0 AND claim IS NULL AND due > now()
        ORDER BY chat_id FOR UPDATE;
    UPDATE lane SET due = now() WHERE bot_id = bot AND pending > 0 AND claim IS NULL AND due > now();
    IF EXISTS (SELECT FROM bot_pace WHERE bot_id = bot
               AND (held_until = 'infinity' OR hold_code IS NOT NULL AND held_until > now())) THEN
        PERFORM raise_events(jsonb_build_array(bot_status_event(bot, 'active', NULL)));
    END IF;
    UPDATE bot_pace SET held_until = '-infinity', held_reason = NULL, hold_code = NULL, held_at = NULL,
        lifted_code = NULL, lifted_at = NULL, hold_count = 0
    WHERE bot_id = bot;
END $$;

-- End the holds of bots that have a cause; `codes`: only these causes, NULL: any. Returns the bots. The cause is kept: if
-- it comes back, the next check that succeeds does not end the hold at once. Locks: event_feed, bot_pace.
CREATE OR REPLACE FUNCTION lift_holds(bots integer[], codes text[] DEFAULT NULL) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    found integer[];
BEGIN
    SELECT array_agg(bot_id ORDER BY bot_id) INTO found FROM bot_pace
    WHERE bot_id = ANY(bots) AND held_until > now() AND hold_code IS NOT NULL
        AND (codes IS NULL OR hold_code = ANY(codes));
    IF found IS NULL THEN
        RETURN '{}';
    END IF;
    PERFORM raise_events((SELECT jsonb_agg(bot_status_event(id, 'active', NULL)) FROM unnest(found) id));
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_active', bot_status_event(bot_id, 'active', held_reason), 'info'
    FROM bot_pace WHERE bot_id = ANY(found) ORDER BY bot_id;
    PERFORM FROM bot_pace WHERE bot_id = ANY(found) ORDER BY bot_id FOR UPDATE;
    UPDATE bot_pace SET held_until = '-infinity', held_reason = NULL, lifted_code = hold_code, lifted_at = now(),
        hold_code = NULL, held_at = NULL
    WHERE bot_id = ANY(found) AND hold_code IS NOT NULL;
    RETURN found;
END $$;

-- What an operator says of a message whose outcome is unknown; a worker of its channel records it.
ALTER TABLE unknown_message ADD COLUMN IF NOT EXISTS resolution text CHECK (resolution IN ('sent', 'failed'));
ALTER TABLE unknown_message ADD COLUMN IF NOT EXISTS reported_at timestamptz;  -- when operators were told that it lasts
CREATE INDEX IF NOT EXISTS unknown_message_resolved ON unknown_message (message_id) WHERE resolution IS NOT NULL;
CREATE INDEX IF NOT EXISTS unknown_message_unreported ON unknown_message (since) WHERE reported_at IS NULL;

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
    UPDATE bot_pace SET outage_since = LEAST(outage_since, present), outage_seen = LEAST(outage_seen, present),
        held_at = LEAST(held_at, present), lifted_at = LEAST(lifted_at, present)
        WHERE outage_since > present OR outage_seen > present OR held_at > present OR lifted_at > present;
    UPDATE media_download SET due = due - back WHERE due > present AND isfinite(due);
    UPDATE media_download SET tried_at = present WHERE tried_at > present;
    UPDATE bot_check SET due = due - back WHERE due > present AND isfinite(due);
    UPDATE bot_check SET checked_at = present WHERE checked_at > present;
    UPDATE wa_block SET until = until - back WHERE until > present AND isfinite(until);
    UPDATE wa_session SET qr_expires_at = qr_expires_at - back WHERE qr_expires_at > present;
    UPDATE wa_session SET pairing_expires_at = pairing_expires_at - back WHERE pairing_expires_at > present;
    UPDATE wa_session SET started_at = LEAST(started_at, present), beat_at = LEAST(beat_at, present),
        changed_at = LEAST(changed_at, present), caught_up_at = LEAST(caught_up_at, present)
        WHERE GREATEST(started_at, beat_at, changed_at, caught_up_at) > present;
    -- What happened cannot lie in the future: else a process that has ended would seem to live, and the like.
    UPDATE process_instances SET last_heartbeat = present WHERE last_heartbeat > present;
    UPDATE process_health SET last_heartbeat = present WHERE last_heartbeat > present;
    UPDATE wa_command SET created_at = LEAST(created_at, present), done_at = LEAST(done_at, present)
        WHERE created_at > present OR done_at > present;
    UPDATE wa_number SET checked_at = present WHERE checked_at > present;
    WITH ahead AS (
        DELETE FROM wa_sent WHERE hour > present RETURNING bot_id, messages, new_chats
    )
    INSERT INTO wa_sent AS s (bot_id, hour, messages, new_chats)
    SELECT bot_id, date_trunc('hour', present), sum(messages), sum(new_chats) FROM ahead GROUP BY bot_id
    ON CONFLICT (bot_id, hour) DO UPDATE SET messages = s.messages + excluded.messages,
        new_chats = s.new_chats + excluded.new_chats;
    UPDATE dialog360_secret SET previous_until = previous_until - back WHERE previous_until > present;
    UPDATE webhook_delivery SET first_tried_at = present WHERE status = 'pending' AND first_tried_at > present;
    UPDATE unknown_message SET since = LEAST(since, present), reported_at = LEAST(reported_at, present)
        WHERE since > present OR reported_at > present;
    UPDATE clock_seen SET at = clock_timestamp();
    RETURN extract(epoch FROM back);
END $$;
