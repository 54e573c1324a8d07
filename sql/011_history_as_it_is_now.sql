-- The history and the events say what is, in whatever order it is reported: changes of messages that are not there yet
-- wait for them, a person with several numbers or user ids has one chat, and the latest name of a person is kept.

-- Other ids of a chat. A provider may know a number under another form (Brazil's ninth digit), and a person under a
-- user id: those are valid permanently. A person's former phone number is valid until it was left, since it may become
-- another person's.
CREATE TABLE IF NOT EXISTS chat_alias (
    company_id  varchar(255) NOT NULL,
    alias       text         NOT NULL,
    chat_id     text         NOT NULL,
    valid_until timestamptz  NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (company_id, alias, chat_id)
);
CREATE INDEX IF NOT EXISTS chat_alias_chat ON chat_alias (company_id, chat_id);

-- Reactions, edits, revocations and status reports that came in. Each is applied once, however often it is delivered,
-- and waits for its message if that comes later.
CREATE TABLE IF NOT EXISTS message_change (
    company_id varchar(255) NOT NULL,
    change_id  text         NOT NULL,                -- the same whenever it is delivered
    kind       text         NOT NULL,                -- reaction, edit, revocation, status
    target     text         NOT NULL,                -- messages.external_id
    details    jsonb        NOT NULL,                -- the row as the inbox applies it
    waits      boolean      NOT NULL,                -- whether the message was unknown
    seen_at    timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, change_id)
);
CREATE INDEX IF NOT EXISTS message_change_waiting ON message_change (company_id, target) WHERE waits;
CREATE INDEX IF NOT EXISTS message_change_seen ON message_change (seen_at);

-- When the person had the name that is stored.
ALTER TABLE contacts ADD COLUMN IF NOT EXISTS named_at timestamptz;

-- The chat to which an id belonged at a time; now, without one.
CREATE OR REPLACE FUNCTION chat_of(company varchar, id text, at timestamptz DEFAULT 'infinity') RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT COALESCE((SELECT chat_id FROM chat_alias WHERE company_id = company AND alias = id AND valid_until >= at
                     ORDER BY valid_until LIMIT 1), id)
$$;

-- A chat's id as the history has it.
CREATE OR REPLACE FUNCTION history_chat_id(id text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN id ~ '^[0-9]+$' THEN id || '@c.us' ELSE id END
$$;

-- A person has another number or user id: the chat continues under it, with its history, contact and window. What came
-- after `until` under the former id is another person's. Returns whether that is new.
-- Locks are taken in the order of 004: history (messages, contacts, chat).
CREATE OR REPLACE FUNCTION move_chat(company varchar, former text, new text, until timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    old_contact text := company || '-' || split_part(former, '@', 1);
    new_contact text := company || '-' || split_part(new, '@', 1);
BEGIN
    IF former = new THEN
        RETURN false;
    END IF;
    INSERT INTO chat_alias (company_id, alias, chat_id, valid_until) VALUES (company, former, new, until)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE chat_alias SET chat_id = new,
            valid_until = CASE WHEN alias ~ '^[0-9]+$' THEN LEAST(valid_until, until) ELSE valid_until END
        WHERE company_id = company AND chat_id = former AND alias <> new
        AND NOT EXISTS (SELECT FROM chat_alias a WHERE a.company_id = company AND a.alias = chat_alias.alias
                        AND a.chat_id = new);
    UPDATE messages SET contact_id = new_contact, chat_id = history_chat_id(new)
        WHERE company_id = company AND contact_id = old_contact AND timestamp <= until
            AND chat_id IN (history_chat_id(former), former, former || '@s.whatsapp.net');
    UPDATE contacts n SET unread_count = COALESCE(n.unread_count, 0) + COALESCE(o.unread_count, 0),
            name = COALESCE(NULLIF(n.name, ''), o.name), contact_name = COALESCE(n.contact_name, o.contact_name),
            named_at = COALESCE(n.named_at, o.named_at), updated_at = now(),
            tags = CASE WHEN COALESCE(n.tags, '[]') = '[]' THEN o.tags ELSE n.tags END,
            last_message = CASE WHEN COALESCE((n.last_message ->> 'timestamp')::float, 0)
                < COALESCE((o.last_message ->> 'timestamp')::float, 0) THEN o.last_message ELSE n.last_message END
        FROM contacts o WHERE n.company_id = company AND n.contact_id = new_contact
            AND o.company_id = company AND o.contact_id = old_contact;
    IF FOUND THEN
        DELETE FROM contacts WHERE company_id = company AND contact_id = old_contact;
    ELSE
        UPDATE contacts SET contact_id = new_contact, chat_id = history_chat_id(new), updated_at = now(),
            phone = CASE WHEN new ~ '^[0-9]+$' THEN '+' || new END
            WHERE company_id = company AND contact_id = old_contact;
    END IF;
    INSERT INTO chat AS c (bot_id, chat_id, user_id, last_inbound_at, window_until)
        SELECT bot_id, new, user_id, last_inbound_at, window_until FROM chat
        WHERE chat_id = former AND bot_id IN (SELECT id FROM phone_configs WHERE company_id = company)
        ORDER BY bot_id
        ON CONFLICT (bot_id, chat_id) DO UPDATE SET user_id = COALESCE(c.user_id, excluded.user_id),
            last_inbound_at = GREATEST(c.last_inbound_at, excluded.last_inbound_at),
            window_until = GREATEST(c.window_until, excluded.window_until);
    DELETE FROM chat WHERE chat_id = former AND bot_id IN (SELECT id FROM phone_configs WHERE company_id = company);
    RETURN true;
END $$;
