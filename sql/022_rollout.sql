-- Rollouts: bots move to the other side by degrees, and back if the moved ones do worse.

CREATE TABLE IF NOT EXISTS rollout (
    id           integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel      varchar(20),                                 -- NULL: bots of every channel
    from_side    text        NOT NULL CHECK (from_side IN ('legacy', 'multiprocess')),
    to_side      text        NOT NULL CHECK (to_side IN ('legacy', 'multiprocess')),
    bots         integer[]   NOT NULL,                        -- in the order in which they move
    steps        jsonb       NOT NULL,                        -- [{"percent", "seconds"}, …]; null: until an operator advances
    step         integer     NOT NULL DEFAULT 0,              -- the current one, from 0
    phase        text        NOT NULL DEFAULT 'forward' CHECK (phase IN ('forward', 'back', 'done', 'undone')),
    paused       boolean     NOT NULL DEFAULT false,
    automatic    boolean     NOT NULL,                        -- whether it advances by itself
    began_at     timestamptz NOT NULL DEFAULT now(),
    step_at      timestamptz,                                 -- when all bots of the step had moved; NULL: not yet
    ended_at     timestamptz,
    by           text        NOT NULL,                        -- who began it
    reason       text        NOT NULL DEFAULT '',             -- why it goes back, waits, or ended as it did
    ruling       text,                                        -- the last verdict: pass, fail, hold
    reasons      jsonb       NOT NULL DEFAULT '[]',           -- of that verdict
    judged_at    timestamptz,
    failures     integer     NOT NULL DEFAULT 0,              -- failed starts of a side in a row
    driver       text,                                        -- the process that drives it: <host>/<pid>/<its start>
    driver_until timestamptz NOT NULL DEFAULT '-infinity'     -- when its lease ends
);
CREATE UNIQUE INDEX IF NOT EXISTS rollout_active ON rollout ((true)) WHERE ended_at IS NULL;

-- Hand-overs are in the audit trail too, and changes that people make in the dashboard.
-- contract since 0.1.0: the rule becomes wider, and every release writes only sources that it allows
ALTER TABLE audit_record DROP CONSTRAINT IF EXISTS audit_record_source_check;
-- contract since 0.1.0: the same
ALTER TABLE audit_record ADD CONSTRAINT audit_record_source_check
    CHECK (source IN ('cli', 'api', 'dashboard', 'guard', 'manager', 'rollout'));

-- A hand-over that was under way is given up, and the lease of a rollout ends. For the rest of it, see migration 008.
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
    UPDATE rollout SET began_at = LEAST(began_at, present), step_at = LEAST(step_at, present),
        judged_at = LEAST(judged_at, present), driver_until = LEAST(driver_until, present)
        WHERE ended_at IS NULL AND GREATEST(began_at, step_at, judged_at, driver_until) > present;
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
