-- The whole schema, for reading: what all migrations make of an empty database. A test holds the two against each
-- other. To make or change a database, use `bisnesctl migrate`.

---- What the old system made, and other services read

DO $$
BEGIN
    IF to_regprocedure('uuid_generate_v4()') IS NULL THEN
        IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'uuid-ossp') THEN
            CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
        ELSE  -- a server without contrib modules; gen_random_uuid() is built in from PostgreSQL 13 on
            CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT gen_random_uuid()';
        END IF;
    END IF;
END $$;

CREATE TABLE phone_configs (
    id                          serial       PRIMARY KEY,
    company_id                  varchar(255) NOT NULL,
    phone_index                 integer      NOT NULL DEFAULT 0,
    connection_type             varchar(20)  DEFAULT 'wwebjs',
    dialog360_client_id         varchar(255),
    dialog360_channel_id        varchar(255),
    api_key_encrypted           text,
    meta_phone_number_id        varchar(255),
    meta_waba_id                varchar(255),
    meta_access_token_encrypted text,
    display_phone_number        varchar(50),
    status                      varchar(50)  DEFAULT 'pending',
    created_at                  timestamp    DEFAULT now(),
    updated_at                  timestamp    DEFAULT now(),
    process_name                varchar(20),            -- of connection_type
    UNIQUE (company_id, phone_index)
);

CREATE TABLE phone_status (
    id              serial       PRIMARY KEY,
    company_id      varchar(255) NOT NULL,
    phone_index     varchar(50)  NOT NULL DEFAULT '0',  -- as text, unlike everywhere else
    phone_number    varchar(50),
    status          varchar(50),
    last_seen       timestamp,
    metadata        jsonb        DEFAULT '{}',          -- the QR code is in it
    connection_type varchar(20),
    updated_at      timestamp    DEFAULT now(),
    process_name    varchar(20)                         -- of connection_type
);

CREATE TABLE messages (
    id                 uuid         PRIMARY KEY DEFAULT uuid_generate_v4(),
    message_id         varchar(255),
    company_id         varchar(255) NOT NULL,
    contact_id         varchar(255),                    -- <companyId>-<digits>
    chat_id            varchar(255),
    content            text,
    message_type       varchar(50),
    media_url          text,
    media_data         text,
    media_metadata     jsonb,
    quoted_message     jsonb,
    from_me            boolean,
    direction          varchar(20),
    author             varchar(255),
    status             varchar(50)  DEFAULT 'sent',
    phone_index        integer,
    reaction           varchar(50),
    reaction_timestamp timestamptz,
    edited             boolean      DEFAULT false,
    edited_at          timestamptz,
    timestamp          timestamptz  DEFAULT now(),
    created_at         timestamptz  DEFAULT now(),
    provider           varchar(20)  DEFAULT 'wwebjs',
    external_id        varchar(255),
    UNIQUE (message_id, company_id)
);

CREATE TABLE contacts (
    id           uuid         PRIMARY KEY DEFAULT uuid_generate_v4(),
    contact_id   varchar(255),
    company_id   varchar(255) NOT NULL,
    name         varchar(255),
    contact_name varchar(255),
    phone        varchar(50),
    chat_id      varchar(255),
    phone_index  integer,
    tags         jsonb        DEFAULT '[]',
    last_message jsonb,
    unread_count integer      DEFAULT 0,
    created_at   timestamptz  DEFAULT now(),
    updated_at   timestamptz  DEFAULT now(),
    named_at     timestamptz,                   -- when the person had the name
    UNIQUE (contact_id, company_id)
);

-- When the last message of a contact was, in seconds since the epoch. The former system wrote some of these times in
-- milliseconds, and left some out.
CREATE FUNCTION contact_active_at(last_message jsonb, updated_at timestamptz) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(last_message -> 'timestamp') IS DISTINCT FROM 'number'
        THEN GREATEST(LEAST(COALESCE(extract(epoch FROM updated_at AT TIME ZONE 'UTC')::float8, 0), 253402300799), 0)
        ELSE GREATEST(LEAST(CASE WHEN (last_message ->> 'timestamp')::numeric > 1e11
            THEN (last_message ->> 'timestamp')::numeric / 1000
            ELSE (last_message ->> 'timestamp')::numeric END, 253402300799), 0)::float8 END
$$;

-- The chats with the newest messages: of all companies, and of one.
CREATE INDEX contacts_active ON contacts (contact_active_at(last_message, updated_at) DESC, id DESC);
CREATE INDEX contacts_of_company_active
    ON contacts (company_id, contact_active_at(last_message, updated_at) DESC, id DESC);

---- Process isolation: the process of each bot

CREATE FUNCTION process_of(connection_type text) RETURNS varchar LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN connection_type IN ('meta_direct', 'meta_embedded', '360dialog') THEN 'meta' ELSE 'wwebjs' END
$$;

CREATE FUNCTION set_process_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.process_name := process_of(NEW.connection_type);
    RETURN NEW;
END $$;
CREATE TRIGGER set_process_name BEFORE INSERT OR UPDATE OF connection_type ON phone_configs
    FOR EACH ROW EXECUTE FUNCTION set_process_name();
CREATE TRIGGER set_process_name BEFORE INSERT OR UPDATE OF connection_type ON phone_status
    FOR EACH ROW EXECUTE FUNCTION set_process_name();

CREATE INDEX idx_phone_configs_process ON phone_configs (process_name, status)
    WHERE process_name IS NOT NULL;
CREATE INDEX idx_phone_status_process ON phone_status (process_name, status)
    WHERE process_name IS NOT NULL;
CREATE INDEX idx_phone_configs_connection_type ON phone_configs (connection_type, company_id)
    WHERE connection_type IS NOT NULL;

---- Process isolation: health

CREATE TABLE process_health (
    process_name       varchar(20) PRIMARY KEY,
    status             varchar(20) NOT NULL DEFAULT 'unknown',
    last_heartbeat     timestamptz,
    error_count        integer     NOT NULL DEFAULT 0,
    last_error         text,
    uptime_seconds     bigint      NOT NULL DEFAULT 0,
    memory_usage_mb    numeric     NOT NULL DEFAULT 0,
    cpu_usage_percent  numeric     NOT NULL DEFAULT 0,
    active_connections integer     NOT NULL DEFAULT 0,
    messages_processed bigint      NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
INSERT INTO process_health (process_name) VALUES ('api'), ('wwebjs'), ('meta');

CREATE TABLE process_metrics (
    id           bigserial    PRIMARY KEY,
    process_name varchar(20)  NOT NULL,
    metric_name  varchar(100) NOT NULL,
    metric_value numeric      NOT NULL,
    metric_type  varchar(20)  NOT NULL DEFAULT 'gauge',
    timestamp    timestamptz  NOT NULL DEFAULT now(),  -- kept 7 days
    metadata     jsonb        NOT NULL DEFAULT '{}'
);
CREATE INDEX idx_process_metrics_time ON process_metrics (process_name, metric_name, timestamp);

CREATE TABLE process_events (
    id           bigserial    PRIMARY KEY,
    process_name varchar(20)  NOT NULL,
    event_type   varchar(100) NOT NULL,
    event_data   jsonb        NOT NULL DEFAULT '{}',
    severity     varchar(20)  NOT NULL DEFAULT 'info' CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    timestamp    timestamptz  NOT NULL DEFAULT now()   -- info and warning kept 30 days, error and critical for good
);
CREATE INDEX idx_process_events_time ON process_events (process_name, timestamp);
CREATE INDEX process_events_at ON process_events (timestamp DESC, id DESC);

CREATE VIEW v_process_health_overview AS
SELECT h.process_name, h.status, h.last_heartbeat, h.error_count, h.last_error, h.uptime_seconds, h.memory_usage_mb,
       h.cpu_usage_percent, h.active_connections, h.messages_processed, h.created_at, h.updated_at,
       CASE WHEN h.last_heartbeat > now() - interval '30 seconds' THEN 'healthy'
            WHEN h.last_heartbeat > now() - interval '60 seconds' THEN 'degraded'
            ELSE 'down' END AS computed_status,
       extract(epoch FROM now() - h.last_heartbeat)::float AS seconds_since_heartbeat,
       (SELECT count(*) FROM phone_configs c WHERE c.process_name = h.process_name
           AND c.status IN ('active', 'connected', 'ready')) AS active_bots
FROM process_health h;

---- The outbox, keys, and what services keep for themselves
--
-- The outbox is the queue's truth. Each chat that ever had a message has a lane: workers claim due lanes, then
-- the oldest unfinished message of each, so that a held chat delays nobody else and the cost of a claim does
-- not grow with the backlog. A message's row is written twice on its way out: at acceptance and with its outcome;
-- that it is in hand meanwhile is said by its lane.

-- Ordered on purpose: a status moves forward with GREATEST, so late and repeated reports change nothing.
CREATE TYPE message_status AS ENUM
    ('queued', 'waiting', 'sending', 'unknown', 'sent', 'failed', 'delivered', 'read');

CREATE TABLE outbox (
    bot_id      integer        NOT NULL,               -- phone_configs.id
    chat_id     text           NOT NULL,               -- normalised: digits, or <id>@g.us, or <id>@lid
    id          bigint         GENERATED ALWAYS AS IDENTITY,  -- the order of acceptance within a chat
    message_id  uuid           NOT NULL,               -- what the caller was given
    company_id  varchar(255)   NOT NULL,
    phone_index integer        NOT NULL,
    kind        text           NOT NULL,               -- text
    payload     jsonb          NOT NULL,
    status      message_status NOT NULL DEFAULT 'queued',
    attempts    smallint       NOT NULL DEFAULT 0,
    provider_id text,                                  -- wamid of Meta
    error_code  text,
    error       text,
    timeline    jsonb          NOT NULL DEFAULT '[]',  -- [{"status", "at", "attempt"?, "code"?, "error"?}, …]
    accepted_at timestamptz    NOT NULL DEFAULT now(),
    updated_at  timestamptz    NOT NULL DEFAULT now(),
    request_id  text,                                  -- X-Request-Id of the request that it came with
    is_probe    boolean        NOT NULL DEFAULT false, -- a rollout sent it to a test chat; never counted among customers'
    PRIMARY KEY (bot_id, chat_id, id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX outbox_message_id ON outbox (message_id);

CREATE TABLE lane (
    bot_id  integer     NOT NULL,
    chat_id text        NOT NULL,
    due     timestamptz NOT NULL DEFAULT now(),  -- when it may be claimed next; while claimed, when the lease ends
    pending integer     NOT NULL CHECK (pending >= 0),
    done    bigint      NOT NULL DEFAULT 0,      -- all messages of the chat up to this id are finished; < 0: reopened_at()
    head    bigint,                              -- the message in hand, while claimed
    claim   text,                                -- the worker that has it: <host>/<instance>/<boot>
    fence   bigint      NOT NULL DEFAULT 0,      -- the number of the claim: grows by one with each
    unmarked text,                               -- equals `claim` until its message may leave
    accepted bigint,                             -- rows of the chat in the outbox; NULL: to be counted
    epoch   bigint,                              -- of the bot's owner when it was claimed
    PRIMARY KEY (bot_id, chat_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lane_due ON lane (bot_id, due) WHERE pending > 0 AND claim IS NULL;
CREATE INDEX lane_claimed ON lane (due) WHERE claim IS NOT NULL;

-- Messages whose outcome was open at some time; the outbox says whether it still is. A table of its own, since with an
-- index on outbox.status no outcome could be written within its page (HOT).
CREATE TABLE unknown_message (
    message_id uuid        PRIMARY KEY,              -- outbox.message_id
    since      timestamptz NOT NULL DEFAULT now(),
    resolution text        CHECK (resolution IN ('sent', 'failed')),  -- an operator's word, which a worker records
    reported_at timestamptz                          -- when operators were told that it lasts
);
CREATE INDEX unknown_message_since ON unknown_message (since);
CREATE INDEX unknown_message_resolved ON unknown_message (message_id) WHERE resolution IS NOT NULL;
CREATE INDEX unknown_message_unreported ON unknown_message (since) WHERE reported_at IS NULL;

-- The messages that have failed, for counts and lists. A table of its own for the same reason.
CREATE TABLE failed_message (
    bot_id    integer     NOT NULL,
    id        bigint      NOT NULL,
    chat_id   text        NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, id)
);
CREATE INDEX failed_message_at ON failed_message (failed_at);

CREATE FUNCTION note_failed_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' AND NEW.status = 'failed' THEN
        INSERT INTO failed_message (bot_id, id, chat_id, failed_at) VALUES (NEW.bot_id, NEW.id, NEW.chat_id, NEW.updated_at)
        ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM failed_message WHERE bot_id = OLD.bot_id AND id = OLD.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_failed AFTER UPDATE OF status ON outbox FOR EACH ROW
    WHEN ((OLD.status = 'failed') <> (NEW.status = 'failed')) EXECUTE FUNCTION note_failed_message();
CREATE TRIGGER note_failed_at_once AFTER INSERT ON outbox FOR EACH ROW
    WHEN (NEW.status = 'failed') EXECUTE FUNCTION note_failed_message();
CREATE TRIGGER forget_failed AFTER DELETE ON outbox FOR EACH ROW
    WHEN (OLD.status = 'failed') EXECUTE FUNCTION note_failed_message();

-- Keeps the count of rows of a chat from which rows were deleted. One that cannot be right is forgotten.
CREATE FUNCTION recount_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE lane l SET accepted = CASE WHEN l.accepted >= g.n THEN l.accepted - g.n END
    FROM (SELECT bot_id, chat_id, count(*) AS n FROM gone GROUP BY bot_id, chat_id) g
    WHERE l.bot_id = g.bot_id AND l.chat_id = g.chat_id AND l.accepted IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER recount_accepted AFTER DELETE ON outbox REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION recount_accepted();

-- Where a chat's lane goes on when an older message is queued once more: its `done` then. While another message is in hand
-- (`head`), the lane's `done` is below 0: minus the first message to be looked at once that one's outcome is recorded.
CREATE FUNCTION reopened_at(done bigint, head bigint, first bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN done < 0 THEN -LEAST(-done, first) WHEN head IS NOT NULL THEN -LEAST(head, first)
        ELSE LEAST(done, first - 1) END
$$;

-- One row a bot: its rate and its holds, shared by all workers and machines.
CREATE TABLE bot_pace (
    bot_id       integer     PRIMARY KEY,
    process_name varchar(20) NOT NULL,
    rate         real        CHECK (rate > 0),                -- messages a second; NULL: the channel's setting
    free_at      timestamptz NOT NULL DEFAULT '-infinity',    -- when the token bucket was last empty
    held_until   timestamptz NOT NULL DEFAULT '-infinity',    -- infinity: until its cause is gone, or an operator acts
    held_reason  text,
    slow_factor  real        NOT NULL DEFAULT 1 CHECK (slow_factor > 0 AND slow_factor <= 1),
    slow_until   timestamptz NOT NULL DEFAULT '-infinity',    -- throttled by the provider: slowed by all workers alike
    -- The provider cannot be reached, or serves nobody just now:
    outage_since    timestamptz,                              -- NULL: there is no outage
    outage_seen     timestamptz,                              -- the last attempt that failed
    outage_code     text,                                     -- network, http_502, 131000, …
    outage_reason   text,
    outage_pause    real         NOT NULL DEFAULT 0,          -- seconds before the next attempt
    outage_reported boolean      NOT NULL DEFAULT false,      -- whether it lasted long enough to be told
    -- The cause of a hold that the provider, or a check of the number, has to take back: 190, account_update.…
    hold_code    text,
    held_at      timestamptz,                                 -- when the hold with that code began
    lifted_code  text,                                        -- the cause that was lifted last
    lifted_at    timestamptz,
    hold_count   integer      NOT NULL DEFAULT 0,             -- how often it came back since then
    -- An operator or the company paused the bot. The pause is independent of the holds above.
    paused_until timestamptz  NOT NULL DEFAULT '-infinity',   -- infinity: until an operator resumes it; past: when it ended
    paused_at    timestamptz,                                 -- when it began; NULL: there is none
    paused_reason text,
    paused_by    text,
    -- The side that serves the bot. Without an owner, the programs that run serve it.
    owner        text         CHECK (owner IN ('legacy', 'multiprocess')),
    owner_epoch  bigint,                                      -- grows with each change of the owner
    owner_since  timestamptz,
    owner_by     text,                                        -- who changed it
    next_owner   text,                                        -- the side that it is being handed over to
    drain_until  timestamptz  NOT NULL DEFAULT '-infinity',   -- until then nobody claims
    paused_by_company boolean NOT NULL DEFAULT false          -- whether the company made the pause; only then it may end it
);
CREATE SEQUENCE owner_epoch;

-- The owner of bots that are added; no row: none.
CREATE TABLE new_bot_owner (
    process_name varchar(20) PRIMARY KEY,
    owner        text        NOT NULL CHECK (owner IN ('legacy', 'multiprocess'))
);

CREATE FUNCTION number_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.owner IS DISTINCT FROM OLD.owner THEN
        NEW.owner_epoch := nextval('owner_epoch');
        NEW.owner_since := now();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER number_owner BEFORE UPDATE OF owner ON bot_pace FOR EACH ROW EXECUTE FUNCTION number_owner();

-- Every change is a process event, and the managers of the sessions hear of it at once.
CREATE FUNCTION note_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO process_events (process_name, event_type, event_data)
    SELECT NEW.process_name, 'bot_owner_changed', jsonb_build_object('company', company_id, 'phoneIndex', phone_index,
        'session', company_id || '-' || phone_index, 'from', OLD.owner, 'to', NEW.owner, 'epoch', NEW.owner_epoch,
        'by', NEW.owner_by)
    FROM phone_configs WHERE id = NEW.bot_id;
    PERFORM pg_notify('bisnes_sessions', 'owner');
    RETURN NULL;
END $$;
CREATE TRIGGER note_owner AFTER UPDATE OF owner ON bot_pace FOR EACH ROW
    WHEN (OLD.owner IS DISTINCT FROM NEW.owner) EXECUTE FUNCTION note_owner();

CREATE FUNCTION keep_bot_pace() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER keep_bot_pace AFTER INSERT OR DELETE OR UPDATE OF connection_type, process_name ON phone_configs
    FOR EACH ROW EXECUTE FUNCTION keep_bot_pace();

CREATE TABLE api_keys (
    id         integer      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_hash   bytea        NOT NULL UNIQUE,  -- SHA-256 of the key; the key itself is shown once and not kept
    prefix     text         NOT NULL,         -- its first characters, to tell keys apart in lists
    company_id varchar(255),                  -- NULL: an operator's key, for every company
    label      text         NOT NULL DEFAULT '',
    created_at timestamptz  NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Processes that remember keys and bots listen to this channel and forget them at once.
CREATE FUNCTION announce_config() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bisnes_config', TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_config AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION announce_config();
CREATE TRIGGER announce_config AFTER INSERT OR DELETE OR UPDATE OF company_id, phone_index, connection_type, process_name,
    api_key_encrypted, meta_phone_number_id, meta_access_token_encrypted ON phone_configs
    FOR EACH STATEMENT EXECUTE FUNCTION announce_config();

CREATE TABLE idempotency_keys (
    company_id varchar(255) NOT NULL,
    key        text         NOT NULL,
    digest     bytea        NOT NULL,  -- SHA-256 of the request it was first used with
    message_id uuid         NOT NULL,
    created_at timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, key)
);

-- Webhooks as they came, stored before they are answered and parsed afterwards.
CREATE TABLE webhook_inbox (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    process_name varchar(20) NOT NULL,
    body         bytea       NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz,
    error        text,                        -- why it was set aside
    bot_id       integer                      -- the bot whose own secret came with it (360dialog); NULL: signed for all
);
CREATE INDEX webhook_inbox_waiting ON webhook_inbox (process_name, id) WHERE processed_at IS NULL;
CREATE INDEX webhook_inbox_aside ON webhook_inbox (id) WHERE error IS NOT NULL;

-- One row for each running instance on each host; process_health keeps the sum that older readers know.
CREATE TABLE process_instances (
    process_name       varchar(20)  NOT NULL,
    host               text         NOT NULL,
    instance           text         NOT NULL,
    pid                integer      NOT NULL,
    status             varchar(20)  NOT NULL,
    started_at         timestamptz  NOT NULL,
    last_heartbeat     timestamptz  NOT NULL DEFAULT now(),
    memory_usage_mb    numeric      NOT NULL DEFAULT 0,
    cpu_usage_percent  numeric      NOT NULL DEFAULT 0,
    active_connections integer      NOT NULL DEFAULT 0,
    messages_processed bigint       NOT NULL DEFAULT 0,
    error_count        integer      NOT NULL DEFAULT 0,
    last_error         text,
    run                text,                        -- one start of the instance: its counts begin at 0
    messages_sent      bigint       NOT NULL DEFAULT 0,
    messages_received  bigint       NOT NULL DEFAULT 0,
    responses          integer      NOT NULL DEFAULT 0,  -- in the last minute
    response_ms        numeric      NOT NULL DEFAULT 0,  -- all of them together
    deployment         text,                        -- of the process; two with the same names must not run side by side
    figures            jsonb        NOT NULL DEFAULT '{}',  -- what it reports beside the columns, such as its pool
    PRIMARY KEY (process_name, host, instance)
);

-- Counters of each process that survive restarts. An instance reports what it counted since its start; the difference
-- to its row of before is added.
CREATE TABLE process_totals (
    process_name varchar(20) PRIMARY KEY,
    processed    bigint      NOT NULL DEFAULT 0,
    sent         bigint      NOT NULL DEFAULT 0,
    received     bigint      NOT NULL DEFAULT 0,
    errors       bigint      NOT NULL DEFAULT 0,
    measured_at  timestamptz NOT NULL DEFAULT now(),  -- when rows were last added to process_metrics
    failed       bigint      NOT NULL DEFAULT 0        -- messages
);

-- What the last clean-up of old rows did.
CREATE TABLE retention_run (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),  -- one row
    at         timestamptz NOT NULL DEFAULT now(),                -- the last time that nothing failed; at first: now
    seconds    real        NOT NULL DEFAULT 0,                    -- it took
    deleted    jsonb       NOT NULL DEFAULT '{}',                 -- rows by their kind; those without any are left out
    host       text        NOT NULL DEFAULT '',
    tried_at   timestamptz,                                       -- its last end; NULL: it never ran
    failed     jsonb       NOT NULL DEFAULT '{}',                 -- reasons by kind of rows
    unfinished boolean     NOT NULL DEFAULT false                 -- it left old rows to the next
);
INSERT INTO retention_run DEFAULT VALUES;

-- The one store that has the files of this database's messages.
CREATE TABLE media_store (
    one   boolean     PRIMARY KEY DEFAULT true CHECK (one),  -- one row
    id    text        NOT NULL,                              -- as in the marker of the folder, or the address of S3
    place text        NOT NULL,                              -- where it was when it was noted: <host>:<folder>, or the address
    since timestamptz NOT NULL DEFAULT now()
);

-- Ids of the provider are looked up when a status comes in and when a front-end names one.
CREATE INDEX idx_messages_external_id ON messages (external_id) WHERE external_id IS NOT NULL;

-- Both directions of a chat are read together, newest first.
CREATE INDEX idx_messages_chat ON messages (company_id, contact_id, timestamp DESC, id DESC);

---- What comes in, what the customer is told of it, and how a number is
--
-- Locks are taken in this order, so that nothing deadlocks: lanes, outbox, history (messages, contacts, chat),
-- event_feed, bot_pace.

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
CREATE INDEX webhook_delivery_dead ON webhook_delivery (updated_at) WHERE status = 'dead';
CREATE INDEX webhook_delivery_dead_of_webhook ON webhook_delivery (webhook_id, seq) WHERE status = 'dead';

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

-- End a bot's hold, whatever its cause: it continues with what waits for it.
CREATE FUNCTION release_bot(bot integer) RETURNS void LANGUAGE plpgsql AS $$
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
CREATE FUNCTION lift_holds(bots integer[], codes text[] DEFAULT NULL) RETURNS integer[] LANGUAGE plpgsql AS $$
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
    caught_up_for      text,                                   -- the number of which that is true
    bound_number       text                                    -- digits of the only number that may be linked; NULL: any
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
    kind   text        NOT NULL,                               -- failed_starts, logged_out, conflict, banned,
                                                               -- wrong_number, operator
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
CREATE FUNCTION forget_bot() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER forget_bot AFTER DELETE ON phone_configs FOR EACH ROW EXECUTE FUNCTION forget_bot();

---- The clock
--
-- The server's clock may be set back: by its time service, or by a failover to a machine with another clock. What was
-- to happen in five seconds would then happen in an hour. The latest time that was seen is kept, so that the step is
-- noticed, by whichever process looks first and also after a restart of all of them, and repaired once.

CREATE TABLE clock_seen (
    one boolean     PRIMARY KEY DEFAULT true CHECK (one),  -- one row
    at  timestamptz NOT NULL
);
INSERT INTO clock_seen (at) VALUES (now());

-- Where the clock was set back by two seconds or more, move all that is to happen in the future back as well, so that
-- it is as far away as when the clock was seen last. Returns the seconds, 0 where nothing was to be done.
-- A lease is cut to `lease`, the longest that is given: whoever took one meanwhile keeps it.
-- Locks are taken in this order: lanes, webhooks, their lanes, bot_pace, the rest.
CREATE FUNCTION repair_clock(lease interval) RETURNS float LANGUAGE plpgsql AS $$
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

---- The history and the events say what is, in whatever order it is reported

-- Other ids of a chat. A provider may know a number under another form (Brazil's ninth digit), and a person under a
-- user id: those are valid permanently. A person's former phone number is valid until it was left, since it may become
-- another person's.
CREATE TABLE chat_alias (
    company_id  varchar(255) NOT NULL,
    alias       text         NOT NULL,
    chat_id     text         NOT NULL,
    valid_until timestamptz  NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (company_id, alias, chat_id)
);
CREATE INDEX chat_alias_chat ON chat_alias (company_id, chat_id);

-- Reactions, edits, revocations and status reports that came in. Each is applied once, however often it is delivered,
-- and waits for its message if that comes later.
CREATE TABLE message_change (
    company_id varchar(255) NOT NULL,
    change_id  text         NOT NULL,                -- the same whenever it is delivered
    kind       text         NOT NULL,                -- reaction, edit, revocation, status
    target     text         NOT NULL,                -- messages.external_id
    details    jsonb        NOT NULL,                -- the row as the inbox applies it
    waits      boolean      NOT NULL,                -- whether the message was unknown
    seen_at    timestamptz  NOT NULL DEFAULT now(),
    PRIMARY KEY (company_id, change_id)
);
CREATE INDEX message_change_waiting ON message_change (company_id, target) WHERE waits;
CREATE INDEX message_change_seen ON message_change (seen_at);

-- The chat to which an id belonged at a time; now, without one.
CREATE FUNCTION chat_of(company varchar, id text, at timestamptz DEFAULT 'infinity') RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT COALESCE((SELECT chat_id FROM chat_alias WHERE company_id = company AND alias = id AND valid_until >= at
                     ORDER BY valid_until LIMIT 1), id)
$$;

-- A chat's id as the history has it.
CREATE FUNCTION history_chat_id(id text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN id ~ '^[0-9]+$' THEN id || '@c.us' ELSE id END
$$;

-- A person has another number or user id: the chat continues under it, with its history, contact and window. What came
-- after `until` under the former id is another person's. Returns whether that is new.
-- Locks are taken in the order of 004: history (messages, contacts, chat).
CREATE FUNCTION move_chat(company varchar, former text, new text, until timestamptz) RETURNS boolean
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

---- Quotas, and the takeover from the former system

-- The limits of single companies; other companies have those of the settings.
CREATE TABLE company_quota (
    company_id varchar(255) NOT NULL,
    name       text         NOT NULL,   -- as bisnesctl/database/quotas.py lists them
    value      bigint       CHECK (value >= 0),  -- NULL: unlimited
    PRIMARY KEY (company_id, name)
);
CREATE TRIGGER announce_config AFTER INSERT OR UPDATE OR DELETE ON company_quota
    FOR EACH STATEMENT EXECUTE FUNCTION announce_config();

-- The files of the media store. Whoever stores or deletes a file locks its row meanwhile.
CREATE TABLE media_file (
    key        text         PRIMARY KEY,
    company_id varchar(255) NOT NULL,
    bytes      bigint       NOT NULL,
    uses       integer      NOT NULL,   -- how often it was stored for a message that was not refused
    created_at timestamptz  NOT NULL DEFAULT now()
);
CREATE INDEX media_file_company ON media_file (company_id) INCLUDE (bytes);

-- The files that the API stored for messages that it was about to accept. Retention looks a day later whether the message
-- is there, and removes the row; the file as well if the process died in between and no other message has it.
CREATE TABLE media_upload (
    message_id uuid        PRIMARY KEY,
    key        text        NOT NULL,
    since      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX media_upload_since ON media_upload (since);

-- WhatsApp Web numbers that the former server may still run: no browser is opened for them here before an operator moves
-- them. Those that were linked here before are moved already.
CREATE TABLE former_number (
    bot_id   integer     PRIMARY KEY REFERENCES phone_configs ON DELETE CASCADE,
    since    timestamptz NOT NULL DEFAULT now(),
    moved_at timestamptz                -- NULL: the former server runs it
);

-- The secrets of webhooks of 360dialog that were rotated; all others are derived from ENCRYPTION_KEY.
CREATE TABLE dialog360_secret (
    bot_id             integer     PRIMARY KEY REFERENCES phone_configs ON DELETE CASCADE,
    secret_encrypted   text        NOT NULL,
    previous_encrypted text,                     -- accepted as well until previous_until
    previous_until     timestamptz
);

---- The audit trail: who did what, when, from where, and with which outcome

CREATE TABLE audit_record (
    id           uuid             PRIMARY KEY,           -- made with the record, so that it is delivered once
    at           timestamptz      NOT NULL,
    source       text             NOT NULL CHECK (source IN ('cli', 'api', 'dashboard', 'guard', 'manager', 'rollout')),
    actor        text             NOT NULL,              -- a user, the first characters of an API key, or the program
    origin       text             NOT NULL,              -- a terminal and its ssh client, or the address of a client
    host         text             NOT NULL,
    company_id   text,                                   -- NULL: it concerned no company, or several
    action       text             NOT NULL,              -- the command, the route, or the decision
    arguments    jsonb,                                  -- secrets are masked
    outcome      text             NOT NULL CHECK (outcome IN ('ok', 'failed', 'interrupted')),
    code         text             NOT NULL DEFAULT '',   -- of the error
    message      text             NOT NULL DEFAULT '',   -- of the error, or the reason of a decision
    seconds      double precision NOT NULL DEFAULT 0,
    delivered_at timestamptz      NOT NULL DEFAULT now() -- later than `at` if the database was unavailable
);
CREATE INDEX audit_record_at ON audit_record (at);

-- Rollouts: bots move to the other side by degrees, and back if the moved ones do worse.
CREATE TABLE rollout (
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
CREATE UNIQUE INDEX rollout_active ON rollout ((true)) WHERE ended_at IS NULL;

-- Copies of accepted messages that were sent into simulators, to compare their outcomes. No worker reads this table, and
-- a copy is in no outbox, history, quota or event.

CREATE TABLE trial_copy (
    message_id uuid        PRIMARY KEY,                    -- outbox.message_id of the original
    company_id text        NOT NULL,
    kind       text        NOT NULL,
    copied_at  timestamptz NOT NULL DEFAULT now(),
    outcome    text        NOT NULL CHECK (outcome IN ('sent', 'failed', 'unknown', 'not_copied')),
    code       text        NOT NULL DEFAULT '',            -- of the error
    reason     text        NOT NULL DEFAULT ''
);
CREATE INDEX trial_copy_copied_at ON trial_copy (copied_at);
