-- The queue for operators: pauses of bots, and counts that need no look at every message.
-- Locks: outbox against writers, while its failed messages are looked for.

-- An operator paused the bot: nothing of it leaves. The pause is independent of the holds, which end for other reasons.
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS paused_until  timestamptz NOT NULL DEFAULT '-infinity';  -- past: when it ended
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS paused_at     timestamptz;                               -- NULL: there is none
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS paused_reason text;
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS paused_by     text;

ALTER TABLE lane ADD COLUMN IF NOT EXISTS accepted bigint;  -- rows of the chat in the outbox; NULL: to be counted

-- The messages that have failed, for counts and lists. A table of its own, since with an index on outbox.status no
-- outcome could be written within its page (HOT).
CREATE TABLE IF NOT EXISTS failed_message (
    bot_id  integer NOT NULL,
    id      bigint  NOT NULL,
    chat_id text    NOT NULL,
    PRIMARY KEY (bot_id, id)
);

CREATE OR REPLACE FUNCTION note_failed_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' AND NEW.status = 'failed' THEN
        INSERT INTO failed_message (bot_id, id, chat_id) VALUES (NEW.bot_id, NEW.id, NEW.chat_id) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM failed_message WHERE bot_id = OLD.bot_id AND id = OLD.id;
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS note_failed ON outbox;
CREATE TRIGGER note_failed AFTER UPDATE OF status ON outbox FOR EACH ROW
    WHEN ((OLD.status = 'failed') <> (NEW.status = 'failed')) EXECUTE FUNCTION note_failed_message();
DROP TRIGGER IF EXISTS note_failed_at_once ON outbox;
CREATE TRIGGER note_failed_at_once AFTER INSERT ON outbox FOR EACH ROW
    WHEN (NEW.status = 'failed') EXECUTE FUNCTION note_failed_message();
DROP TRIGGER IF EXISTS forget_failed ON outbox;
CREATE TRIGGER forget_failed AFTER DELETE ON outbox FOR EACH ROW
    WHEN (OLD.status = 'failed') EXECUTE FUNCTION note_failed_message();

-- The rows of a chat from which rows were deleted are counted again.
CREATE OR REPLACE FUNCTION recount_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE lane l SET accepted = NULL FROM (SELECT DISTINCT bot_id, chat_id FROM gone) g
    WHERE l.bot_id = g.bot_id AND l.chat_id = g.chat_id AND l.accepted IS NOT NULL;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS recount_accepted ON outbox;
CREATE TRIGGER recount_accepted AFTER DELETE ON outbox REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION recount_accepted();

INSERT INTO failed_message (bot_id, id, chat_id)
SELECT bot_id, id, chat_id FROM outbox WHERE status = 'failed' ON CONFLICT DO NOTHING;

-- The functions that report a bot as active again: a paused bot is not.

-- End a bot's hold, whatever its cause: it continues with what waits for it.
CREATE OR REPLACE FUNCTION release_bot(bot integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM lane WHERE bot_id = bot AND pending > 0 AND claim IS NULL AND due > now()
        ORDER BY chat_id FOR UPDATE;
    UPDATE lane SET due = now() WHERE bot_id = bot AND pending > 0 AND claim IS NULL AND due > now();
    IF EXISTS (SELECT FROM bot_pace WHERE bot_id = bot AND paused_until <= now()
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
    PERFORM raise_events((SELECT jsonb_agg(bot_status_event(bot_id, 'active', NULL) ORDER BY bot_id) FROM bot_pace
        WHERE bot_id = ANY(found) AND paused_until <= now()));
    INSERT INTO process_events (process_name, event_type, event_data, severity)
    SELECT process_name, 'bot_active', bot_status_event(bot_id, 'active', held_reason), 'info'
    FROM bot_pace WHERE bot_id = ANY(found) ORDER BY bot_id;
    PERFORM FROM bot_pace WHERE bot_id = ANY(found) ORDER BY bot_id FOR UPDATE;
    UPDATE bot_pace SET held_until = '-infinity', held_reason = NULL, lifted_code = hold_code, lifted_at = now(),
        hold_code = NULL, held_at = NULL
    WHERE bot_id = ANY(found) AND hold_code IS NOT NULL;
    RETURN found;
END $$;

-- Pauses are moved as well. For the rest of it, see migration 008.
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
    UPDATE bot_pace SET paused_at = LEAST(paused_at, present),
        paused_until = CASE WHEN paused_at IS NULL THEN LEAST(paused_until, present)
                            WHEN paused_until > present THEN paused_until - back ELSE paused_until END
        WHERE isfinite(paused_until) AND paused_until > present OR paused_at > present;
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
