-- Lists of people: each page is read from an index, however many rows there are.
-- Locks: contacts, failed_message, webhook_delivery and process_events against writers, while their indexes are built. On
-- large tables, run the function and the indexes by hand before, with CREATE INDEX CONCURRENTLY; the migration then finds
-- them.

-- When the last message of a contact was, in seconds since the epoch. The former system wrote some of these times in
-- milliseconds, and left some out.
CREATE OR REPLACE FUNCTION contact_active_at(last_message jsonb, updated_at timestamptz) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(last_message -> 'timestamp') IS DISTINCT FROM 'number'
        THEN GREATEST(LEAST(COALESCE(extract(epoch FROM updated_at AT TIME ZONE 'UTC')::float8, 0), 253402300799), 0)
        ELSE GREATEST(LEAST(CASE WHEN (last_message ->> 'timestamp')::numeric > 1e11
            THEN (last_message ->> 'timestamp')::numeric / 1000
            ELSE (last_message ->> 'timestamp')::numeric END, 253402300799), 0)::float8 END
$$;

-- The chats with the newest messages: of all companies, and of one.
CREATE INDEX IF NOT EXISTS contacts_active ON contacts (contact_active_at(last_message, updated_at) DESC, id DESC);
CREATE INDEX IF NOT EXISTS contacts_of_company_active
    ON contacts (company_id, contact_active_at(last_message, updated_at) DESC, id DESC);

-- The dead letters, the newest first.
ALTER TABLE failed_message ADD COLUMN IF NOT EXISTS failed_at timestamptz NOT NULL DEFAULT now();
UPDATE failed_message f SET failed_at = o.updated_at FROM outbox o
WHERE o.bot_id = f.bot_id AND o.chat_id = f.chat_id AND o.id = f.id AND f.failed_at > o.updated_at;
CREATE INDEX IF NOT EXISTS failed_message_at ON failed_message (failed_at);
CREATE INDEX IF NOT EXISTS webhook_delivery_dead ON webhook_delivery (updated_at) WHERE status = 'dead';
-- Those of one webhook.
CREATE INDEX IF NOT EXISTS webhook_delivery_dead_of_webhook ON webhook_delivery (webhook_id, seq) WHERE status = 'dead';

CREATE OR REPLACE FUNCTION note_failed_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' AND NEW.status = 'failed' THEN
        INSERT INTO failed_message (bot_id, id, chat_id, failed_at) VALUES (NEW.bot_id, NEW.id, NEW.chat_id, NEW.updated_at)
        ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM failed_message WHERE bot_id = OLD.bot_id AND id = OLD.id;
    END IF;
    RETURN NULL;
END $$;

-- The events of all programs, the newest first.
CREATE INDEX IF NOT EXISTS process_events_at ON process_events (timestamp DESC, id DESC);
