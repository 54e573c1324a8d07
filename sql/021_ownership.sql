-- The side that serves a bot: the legacy process or the isolated processes.
--
-- A side claims messages only of bots that it owns, and of those without an owner: without a rollout no bot has one, and
-- the programs that run serve all. A claim has the epoch of the owner under which it was made. While a bot is handed
-- over, nobody claims its messages; if that is not completed in time, it stays with its owner, whoever may have died.

ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS owner       text CHECK (owner IN ('legacy', 'multiprocess'));
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS owner_epoch bigint;                                     -- grows with each change of the owner
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS owner_since timestamptz;
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS owner_by    text;                                       -- who changed it
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS next_owner  text;                                       -- the side that it is being handed over to
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS drain_until timestamptz NOT NULL DEFAULT '-infinity';   -- until then nobody claims

ALTER TABLE lane ADD COLUMN IF NOT EXISTS epoch bigint;                         -- of the bot's owner when it was claimed

CREATE SEQUENCE IF NOT EXISTS owner_epoch;

-- The owner of bots that are added; no row: none.
CREATE TABLE IF NOT EXISTS new_bot_owner (
    process_name varchar(20) PRIMARY KEY,
    owner        text        NOT NULL CHECK (owner IN ('legacy', 'multiprocess'))
);

CREATE OR REPLACE FUNCTION number_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.owner IS DISTINCT FROM OLD.owner THEN
        NEW.owner_epoch := nextval('owner_epoch');
        NEW.owner_since := now();
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS number_owner ON bot_pace;
CREATE TRIGGER number_owner BEFORE UPDATE OF owner ON bot_pace FOR EACH ROW EXECUTE FUNCTION number_owner();

-- Every change is a process event, and the managers of the sessions hear of it at once.
CREATE OR REPLACE FUNCTION note_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO process_events (process_name, event_type, event_data)
    SELECT NEW.process_name, 'bot_owner_changed', jsonb_build_object('company', company_id, 'phoneIndex', phone_index,
        'session', company_id || '-' || phone_index, 'from', OLD.owner, 'to', NEW.owner, 'epoch', NEW.owner_epoch,
        'by', NEW.owner_by)
    FROM phone_configs WHERE id = NEW.bot_id;
    PERFORM pg_notify('bisnes_sessions', 'owner');
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS note_owner ON bot_pace;
CREATE TRIGGER note_owner AFTER UPDATE OF owner ON bot_pace FOR EACH ROW
    WHEN (OLD.owner IS DISTINCT FROM NEW.owner) EXECUTE FUNCTION note_owner();

-- A new bot belongs to the side that is to get new ones; a change of its connection leaves the owner.
CREATE OR REPLACE FUNCTION keep_bot_pace() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM bot_pace WHERE bot_id = OLD.id;
        RETURN OLD;
    END IF;
    INSERT INTO bot_pace (bot_id, process_name, owner, owner_epoch, owner_since, owner_by)
    SELECT NEW.id, NEW.process_name, n.owner, CASE WHEN n.owner IS NOT NULL THEN nextval('owner_epoch') END,
           CASE WHEN n.owner IS NOT NULL THEN now() END, CASE WHEN n.owner IS NOT NULL THEN 'new' END
    FROM (SELECT) one LEFT JOIN new_bot_owner n ON n.process_name = NEW.process_name
    ON CONFLICT (bot_id) DO UPDATE SET process_name = excluded.process_name;
    RETURN NEW;
END $$;

-- A hand-over that was under way is given up. For the rest of it, see migration 008.
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
    UPDATE bot_pace SET drain_until = present, owner_since = LEAST(owner_since, present)
        WHERE drain_until > present OR owner_since > present;
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
