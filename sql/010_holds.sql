-- Holds that end by themselves. `hold_code` names the cause of a hold that the provider, or a check of the number, has
-- to take back: an error code such as 190, or the provider's word, such as account_update.DISABLED_UPDATE. Good news
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
