-- WhatsApp Web: one session a bot, with its state, its commands and its block, the pace of a number that is warming up,
-- and the numbers that were looked up.

-- Keys of WhatsApp Web are chosen before the send and kept here, those of failed attempts as well, so that what the
-- browser tells of a message finds it before its outcome is written down. A key is <fromMe>_<chat>_<id>, in groups with
-- _<author>; the chat may be told by the number or by the id that hides it, so the id alone is compared.
-- A table of its own, since with an index on outbox.provider_id no outcome could be written within its page (HOT).
CREATE TABLE wa_key (
    bot_id     integer     NOT NULL,
    key_id     text        NOT NULL,
    message_id uuid        NOT NULL,                           -- outbox.message_id
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, key_id)
);
CREATE INDEX wa_key_created ON wa_key (bot_id, created_at);

CREATE TABLE wa_session (
    bot_id             integer     PRIMARY KEY,                -- phone_configs.id
    wanted             boolean     NOT NULL DEFAULT true,      -- whether it is to run: start and stop say so
    state              text        NOT NULL DEFAULT 'STOPPED'
                       CHECK (state IN ('STOPPED', 'STARTING', 'SCAN_QR_CODE', 'WORKING', 'FAILED')),
    reason             text,
    changed_at         timestamptz NOT NULL DEFAULT now(),
    host               text,                                   -- of the process that runs it, or ran it last
    pid                integer,
    started_at         timestamptz,
    beat_at            timestamptz,                            -- when its page last proved that it works
    failed_starts      integer     NOT NULL DEFAULT 0,         -- in a row, that came to neither a QR code nor WORKING
    own_number         text,                                   -- digits of the number that it is linked to
    qr                 text,                                   -- what to scan: a credential
    qr_expires_at      timestamptz,
    pairing_code       text,                                   -- what to type in instead: a credential as well
    pairing_expires_at timestamptz,
    memory_mb          real,                                   -- proportional (PSS), of the process and its browser
    versions           jsonb       NOT NULL DEFAULT '{}',      -- {"waJs", "waWeb", "browser"}
    caught_up_at       timestamptz,                            -- what came in before is stored
    caught_up_for      text                                    -- the number of which that is true
);

-- What a running session is told to do.
CREATE TABLE wa_command (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bot_id     integer     NOT NULL,
    command    text        NOT NULL,
    arguments  jsonb       NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    taken_at   timestamptz,
    done_at    timestamptz,
    answer     jsonb,
    error      text
);
CREATE INDEX wa_command_waiting ON wa_command (bot_id, id) WHERE taken_at IS NULL;

-- Bots that are not started; until 'infinity' means until an operator unblocks them.
CREATE TABLE wa_block (
    bot_id integer     PRIMARY KEY,
    kind   text        NOT NULL,                               -- failed_starts, logged_out, conflict, banned, operator
    reason text        NOT NULL,
    since  timestamptz NOT NULL DEFAULT now(),
    until  timestamptz NOT NULL
);

-- What a young number may send; NULL: no limit.
CREATE TABLE wa_limit (
    bot_id            integer PRIMARY KEY,
    per_hour          integer CHECK (per_hour > 0),
    per_day           integer CHECK (per_day > 0),
    new_chats_per_day integer CHECK (new_chats_per_day > 0)
);

-- What it sent, by the hour; kept for two days.
CREATE TABLE wa_sent (
    bot_id    integer     NOT NULL,
    hour      timestamptz NOT NULL,
    messages  integer     NOT NULL DEFAULT 0,
    new_chats integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (bot_id, hour)
);

-- Whether a number is on WhatsApp, asked before the first message to it.
CREATE TABLE wa_number (
    bot_id     integer     NOT NULL,
    chat_id    text        NOT NULL,
    registered boolean     NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, chat_id)
);

-- Numbers that were removed while their browser's profile may still be there.
CREATE TABLE wa_removed (
    bot_id      integer     PRIMARY KEY,
    company_id  varchar     NOT NULL,
    phone_index integer     NOT NULL,
    removed_at  timestamptz NOT NULL DEFAULT now()
);

-- The manager listens, and acts on a start, a stop, a block or its end at once.
CREATE FUNCTION announce_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bisnes_sessions', TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_sessions AFTER INSERT OR DELETE OR UPDATE OF wanted, state ON wa_session
    FOR EACH STATEMENT EXECUTE FUNCTION announce_sessions();
CREATE TRIGGER announce_sessions AFTER INSERT OR DELETE OR UPDATE ON wa_block
    FOR EACH STATEMENT EXECUTE FUNCTION announce_sessions();

-- The event that tells of a session's state.
CREATE FUNCTION session_status_event(bot integer, state text, reason text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('company', company_id, 'session', company_id || '-' || phone_index,
        'event', 'session.status', 'chat', '', 'payload', jsonb_build_object('status', state, 'reason', reason,
            'phoneIndex', phone_index, 'timestamp', floor(extract(epoch FROM now()))))
    FROM phone_configs WHERE id = bot
$$;

-- What belongs to a bot goes with it; the manager removes its profile.
CREATE OR REPLACE FUNCTION forget_bot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM bot_check WHERE bot_id = OLD.id;
    DELETE FROM media_download WHERE bot_id = OLD.id;
    DELETE FROM chat WHERE bot_id = OLD.id;
    WITH gone AS (DELETE FROM wa_session WHERE bot_id = OLD.id RETURNING bot_id)
    INSERT INTO wa_removed (bot_id, company_id, phone_index)
    SELECT bot_id, OLD.company_id, OLD.phone_index FROM gone;
    DELETE FROM wa_command WHERE bot_id = OLD.id;
    DELETE FROM wa_block WHERE bot_id = OLD.id;
    DELETE FROM wa_limit WHERE bot_id = OLD.id;
    DELETE FROM wa_sent WHERE bot_id = OLD.id;
    DELETE FROM wa_number WHERE bot_id = OLD.id;
    DELETE FROM wa_key WHERE bot_id = OLD.id;
    RETURN NULL;
END $$;
