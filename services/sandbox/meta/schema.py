"""The tables of Meta's side."""

from services.sandbox.database import Schema

SCHEMA = Schema(5, """
CREATE TABLE IF NOT EXISTS message (  -- a request of the business to send a message or to mark one as read
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    at              REAL NOT NULL,    -- seconds since the epoch
    phone_number_id TEXT NOT NULL,
    recipient       TEXT NOT NULL,
    kind            TEXT NOT NULL,    -- text, image, …, read; '' if the request could not be parsed
    text            TEXT NOT NULL,
    target          TEXT,             -- the message that this one answers, reacts to or marks as read
    callback_data   TEXT,
    wamid           TEXT,             -- NULL: the request was refused, or it marks a message as read
    answer          TEXT NOT NULL,    -- 200, cut, or the code of the error
    request         TEXT NOT NULL     -- the body, unchanged
);
CREATE INDEX IF NOT EXISTS message_wamid ON message (wamid) WHERE wamid IS NOT NULL;
CREATE TABLE IF NOT EXISTS inbound (  -- a message of a customer, or of the business with its own phone
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    at              REAL NOT NULL,
    phone_number_id TEXT NOT NULL,
    chat            TEXT NOT NULL,    -- digits, the user id of a customer with a hidden number, or a group's id
    wamid           TEXT NOT NULL,
    kind            TEXT NOT NULL,
    text            TEXT NOT NULL,
    target          TEXT,             -- the message that this one answers, reacts to, edits or revokes
    media           TEXT,
    echo            INTEGER NOT NULL, -- whether the business sent it with its own phone
    read_at         REAL              -- when the business marked it as read
);
CREATE INDEX IF NOT EXISTS inbound_wamid ON inbound (wamid);
CREATE INDEX IF NOT EXISTS inbound_chat ON inbound (phone_number_id, chat, at);
CREATE TABLE IF NOT EXISTS webhook_update (  -- one status or change that a webhook delivers
    id              INTEGER PRIMARY KEY,
    wamid           TEXT NOT NULL,
    phone_number_id TEXT NOT NULL,
    account         TEXT NOT NULL,    -- '': the account of the number
    field           TEXT NOT NULL,    -- of the change: messages, account_update, …
    status          TEXT NOT NULL,    -- '' if the body is not a status
    body            TEXT NOT NULL,    -- JSON: an element of `statuses`, or the whole value of a change
    due             REAL NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    delivered_at    REAL
);
CREATE INDEX IF NOT EXISTS webhook_update_due ON webhook_update (due) WHERE delivered_at IS NULL;
CREATE INDEX IF NOT EXISTS webhook_update_wamid ON webhook_update (wamid);
CREATE TABLE IF NOT EXISTS media (    -- a file that the business uploaded or a customer sent
    id              TEXT PRIMARY KEY,
    phone_number_id TEXT NOT NULL,
    mime_type       TEXT NOT NULL,
    sha256          TEXT NOT NULL,    -- hexadecimal
    size            INTEGER NOT NULL,
    filename        TEXT,
    animated        INTEGER NOT NULL,
    created         REAL NOT NULL,
    expires         REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS object (   -- numbers, accounts, tokens, templates, …
    kind            TEXT NOT NULL,
    name            TEXT NOT NULL,
    facts           TEXT NOT NULL,    -- a JSON object: the values that differ from the default
    PRIMARY KEY (kind, name)
);
""")  # fmt: skip
