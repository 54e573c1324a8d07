-- What comes in, what the customer is told of it, and how a number is: chats with their window, media to be fetched,
-- the event log with its webhooks, the checks of the bots.
--
-- Locks are taken in this order, so that nothing deadlocks: lanes, outbox, history (messages, contacts, chat),
-- event_feed, bot_pace.

-- The bot whose own secret came with the webhook (360dialog); NULL: signed for every number of the app.
ALTER TABLE webhook_inbox ADD COLUMN bot_id integer;

-- What could not be understood stays, for an operator to see.
CREATE INDEX webhook_inbox_aside ON webhook_inbox (id) WHERE error IS NOT NULL;

-- A number that its provider throttles is slowed for a while, by all workers alike.
ALTER TABLE bot_pace ADD COLUMN slow_factor real NOT NULL DEFAULT 1 CHECK (slow_factor > 0 AND slow_factor <= 1);
ALTER TABLE bot_pace ADD COLUMN slow_until timestamptz NOT NULL DEFAULT '-infinity';

-- Both directions of a chat are read together, newest first.
CREATE INDEX IF NOT EXISTS idx_messages_chat ON messages (company_id, contact_id, timestamp DESC, id DESC);

-- One row for each chat that ever wrote to us.
CREATE TABLE chat (
    bot_id          integer     NOT NULL,
    chat_id         text        NOT NULL,  -- digits, or the business-scoped user id where the number is hidden
    user_id         text,                  -- Meta's business-scoped user id, where it was told
    last_inbound_at timestamptz,
    window_until    timestamptz,           -- until then anything may be sent, afterwards templates alone
    PRIMARY KEY (bot_id, chat_id)
);
CREATE INDEX chat_user_id ON chat (bot_id, user_id) WHERE user_id IS NOT NULL;

-- Media of messages that came in, still to be fetched from the provider; a row goes when its file is stored.
CREATE TABLE media_download (
    message_id uuid         PRIMARY KEY,                   -- messages.id
    bot_id     integer      NOT NULL,
    company_id varchar(255) NOT NULL,
    media      jsonb        NOT NULL,                      -- {"id", "mimeType", "sha256"?, "filename"?, …}
    attempts   smallint     NOT NULL DEFAULT 0,
    due        timestamptz  NOT NULL DEFAULT now(),        -- infinity: given up
    tried_at   timestamptz,                                -- when the last attempt began
    error      text,
    created_at timestamptz  NOT NULL DEFAULT now()
);
CREATE INDEX media_download_due ON media_download (due);
CREATE INDEX media_download_tried ON media_download (tried_at) WHERE tried_at IS NOT NULL;

-- How the provider sees a bot, asked every few minutes.
CREATE TABLE bot_check (
    bot_id     integer     PRIMARY KEY,
    due        timestamptz NOT NULL DEFAULT now(),
    checked_at timestamptz,
    status     text        NOT NULL DEFAULT 'unknown' CHECK (status IN ('unknown', 'ok', 'warning', 'error')),
    report     jsonb       NOT NULL DEFAULT '{}'
);

-- Events of a company are kept from the moment when it first asks for them, numbered without gaps in the order of
-- their commits: the feed's row is locked until then.
CREATE TABLE event_feed (
    company_id varchar(255) PRIMARY KEY,
    last_seq   bigint       NOT NULL DEFAULT 0
);

CREATE TABLE event (
    company_id varchar(255) NOT NULL,
    seq        bigint       NOT NULL,
    event_id   text         NOT NULL UNIQUE,             -- evt_<ulid>
    name       text         NOT NULL,                    -- message, message.ack, bot.status, …
    session    text         NOT NULL,                    -- <companyId>-<phoneIndex>
    chat_id    text         NOT NULL,                    -- events of one chat are delivered in order; '' for none
    payload    jsonb        NOT NULL,
    created_at timestamptz  NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (company_id, seq)
);
CREATE INDEX event_created ON event (created_at);

CREATE TABLE webhook (
    id                 uuid         PRIMARY KEY,
    company_id         varchar(255) NOT NULL,
    url                text         NOT NULL,
    events             text[]       NOT NULL,            -- names; '*' for all
    secret_encrypted   text         NOT NULL,
    previous_encrypted text,                             -- signs as well until previous_until
    previous_until     timestamptz,
    active             boolean      NOT NULL DEFAULT true,
    failures           integer      NOT NULL DEFAULT 0,  -- in a row
    paused_until       timestamptz  NOT NULL DEFAULT '-infinity',
    last_error         text,
    last_delivered_at  timestamptz,
    created_at         timestamptz  NOT NULL DEFAULT now(),
    updated_at         timestamptz  NOT NULL DEFAULT now()
);
CREATE INDEX webhook_company ON webhook (company_id);

-- What each webhook is to be told; the lane of its chat says what is due.
CREATE TABLE webhook_delivery (
    webhook_id      uuid         NOT NULL REFERENCES webhook ON DELETE CASCADE,
    chat_id         text         NOT NULL,
    seq             bigint       NOT NULL,               -- event.seq of the webhook's company
    event_id        text         NOT NULL,
    status          text         NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead')),
    attempts        integer      NOT NULL DEFAULT 0,
    first_tried_at  timestamptz,
    response_status integer,
    error           text,
    created_at      timestamptz  NOT NULL DEFAULT now(),
    updated_at      timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (webhook_id, seq)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX webhook_delivery_pending ON webhook_delivery (webhook_id, chat_id, seq) WHERE status = 'pending';
CREATE INDEX webhook_delivery_ended ON webhook_delivery (updated_at) WHERE status <> 'pending';

CREATE TABLE webhook_lane (
    webhook_id uuid        NOT NULL REFERENCES webhook ON DELETE CASCADE,
    chat_id    text        NOT NULL,
    due        timestamptz NOT NULL DEFAULT now(),  -- when it may be claimed next; while claimed, when the lease ends
    pending    integer     NOT NULL CHECK (pending >= 0),
    claim      text,                                -- the sender that has it: <host>/<instance>/<run>
    PRIMARY KEY (webhook_id, chat_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE INDEX webhook_lane_due ON webhook_lane (webhook_id, due) WHERE pending > 0;
CREATE INDEX webhook_lane_claimed ON webhook_lane (webhook_id) WHERE claim IS NOT NULL;

-- A ULID: 48 bits of milliseconds and 80 of chance, in Crockford's base 32.
CREATE FUNCTION new_ulid() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    digits  CONSTANT text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    moment  bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    chance  bytea := uuid_send(uuid_generate_v4()) || uuid_send(uuid_generate_v4());
    written text := '';
BEGIN
    FOR place IN REVERSE 9..0 LOOP
        written := written || substr(digits, ((moment >> (5 * place)) & 31)::integer + 1, 1);
    END LOOP;
    FOR place IN 0..15 LOOP  -- not the seventh and the ninth byte of a uuid, which are not all chance
        written := written
            || substr(digits, (get_byte(chance, place + CASE WHEN place < 6 THEN 0 ELSE 3 END) & 31) + 1, 1);
    END LOOP;
    RETURN written;
END $$;

-- Write down events and whom to tell of them. `raised`: [{"company", "session", "event", "chat", "payload"}, …] in their
-- order; those of companies that never asked for events are passed over. Returns how many were written.
CREATE FUNCTION raise_events(raised jsonb) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    written integer;
BEGIN
    IF raised IS NULL OR raised = '[]' THEN
        RETURN 0;
    END IF;
    PERFORM FROM event_feed WHERE company_id IN (SELECT each ->> 'company' FROM jsonb_array_elements(raised) each)
        ORDER BY company_id FOR UPDATE;
    WITH numbered AS (
        SELECT f.company_id, f.last_seq + row_number() OVER (PARTITION BY f.company_id ORDER BY n) AS seq,
               each ->> 'event' AS name, each ->> 'session' AS session, COALESCE(each ->> 'chat', '') AS chat_id,
               each -> 'payload' AS payload
        FROM jsonb_array_elements(raised) WITH ORDINALITY AS given (each, n)
        JOIN event_feed f ON f.company_id = each ->> 'company'
    ), counted AS (
        UPDATE event_feed f SET last_seq = n.seq
        FROM (SELECT company_id, max(seq) AS seq FROM numbered GROUP BY company_id) n WHERE f.company_id = n.company_id
    ), stored AS (
        INSERT INTO event (company_id, seq, event_id, name, session, chat_id, payload)
        SELECT company_id, seq, 'evt_' || new_ulid(), name, session, chat_id, payload FROM numbered ORDER BY company_id, seq
        RETURNING *
    ), addressed AS (
        INSERT INTO webhook_delivery (webhook_id, chat_id, seq, event_id)
        SELECT w.id, s.chat_id, s.seq, s.event_id FROM stored s JOIN webhook w
            ON w.company_id = s.company_id AND w.active AND w.events && ARRAY[s.name, '*']
        ORDER BY w.id, s.chat_id, s.seq
        RETURNING webhook_id, chat_id
    ), queued AS (
        INSERT INTO webhook_lane AS l (webhook_id, chat_id, pending)
        SELECT webhook_id, chat_id, count(*) FROM addressed GROUP BY webhook_id, chat_id ORDER BY webhook_id, chat_id
        ON CONFLICT (webhook_id, chat_id) DO UPDATE SET pending = l.pending + excluded.pending,
            due = CASE WHEN l.pending = 0 AND l.claim IS NULL THEN now() ELSE l.due END
    )
    SELECT count(*) INTO written FROM stored;
    IF written > 0 THEN
        PERFORM pg_notify('bisnes_events', '');
    END IF;
    RETURN written;
END $$;

-- The event that tells of a bot's state: active, or waiting until an operator acts.
CREATE FUNCTION bot_status_event(bot integer, state text, reason text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('company', company_id, 'session', company_id || '-' || phone_index, 'event', 'bot.status',
        'chat', '', 'payload', jsonb_build_object('status', state, 'phoneIndex', phone_index,
            'connectionType', COALESCE(connection_type, 'wwebjs'), 'reason', reason))
    FROM phone_configs WHERE id = bot
$$;

-- End a bot's hold: it goes on with what waits for it.
CREATE FUNCTION release_bot(bot integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM lane WHERE bot_id = bot AND pending > 0 AND claim IS NULL AND due > now()
        ORDER BY chat_id FOR UPDATE;
    UPDATE lane SET due = now() WHERE bot_id = bot AND pending > 0 AND claim IS NULL AND due > now();
    IF EXISTS (SELECT FROM bot_pace WHERE bot_id = bot AND held_until = 'infinity') THEN
        PERFORM raise_events(jsonb_build_array(bot_status_event(bot, 'active', NULL)));
    END IF;
    UPDATE bot_pace SET held_until = '-infinity', held_reason = NULL WHERE bot_id = bot;
END $$;

-- Whoever replaces a credential, by whatever program, sets the queue going again and has the bot checked.
CREATE FUNCTION use_new_credential() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM release_bot(NEW.id);
    INSERT INTO bot_check (bot_id) VALUES (NEW.id) ON CONFLICT (bot_id) DO UPDATE SET due = now();
    RETURN NULL;
END $$;
CREATE TRIGGER use_new_credential AFTER UPDATE OF meta_access_token_encrypted, api_key_encrypted ON phone_configs
    FOR EACH ROW WHEN (OLD.meta_access_token_encrypted IS DISTINCT FROM NEW.meta_access_token_encrypted
                    OR OLD.api_key_encrypted IS DISTINCT FROM NEW.api_key_encrypted)
    EXECUTE FUNCTION use_new_credential();

-- What belongs to a bot goes with it.
CREATE FUNCTION forget_bot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM bot_check WHERE bot_id = OLD.id;
    DELETE FROM media_download WHERE bot_id = OLD.id;
    DELETE FROM chat WHERE bot_id = OLD.id;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_bot AFTER DELETE ON phone_configs FOR EACH ROW EXECUTE FUNCTION forget_bot();
