"""The tables of WhatsApp Web's network."""

from services.sandbox.database import Schema

SCHEMA = Schema(2, """
CREATE TABLE IF NOT EXISTS device (  -- a browser profile
    id       TEXT PRIMARY KEY,
    number   TEXT NOT NULL DEFAULT '',        -- digits; '': not linked
    boot     TEXT NOT NULL DEFAULT '',        -- the page load that is in use
    ref      TEXT NOT NULL DEFAULT '',        -- the beginning of the QR code
    code     TEXT NOT NULL DEFAULT '',        -- the pairing code
    code_for TEXT NOT NULL DEFAULT '',        -- the number that the pairing code is for
    mode     TEXT NOT NULL DEFAULT 'MAIN',
    reason   TEXT NOT NULL DEFAULT '',        -- of the last logout
    offline  INTEGER NOT NULL DEFAULT 0,
    version  INTEGER NOT NULL DEFAULT 0,      -- incremented with every change of the columns above
    seen     REAL NOT NULL DEFAULT 0          -- when its page last polled for updates
);
CREATE TABLE IF NOT EXISTS message (  -- of either side
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    number   TEXT NOT NULL,                   -- the linked number: digits
    key      TEXT NOT NULL,                   -- in WhatsApp's form: true_<chat>_<id>
    chat     TEXT NOT NULL,
    from_me  INTEGER NOT NULL,
    at       REAL NOT NULL,
    ack      INTEGER NOT NULL,
    seen     INTEGER NOT NULL DEFAULT 0,      -- whether the business has read it
    body     TEXT NOT NULL,                   -- JSON
    UNIQUE (number, key)
);
CREATE TABLE IF NOT EXISTS arrival (  -- an attempt to send a message; pages repeat it if the network was lost
    number   TEXT NOT NULL,
    key      TEXT NOT NULL,
    attempt  TEXT NOT NULL,
    at       REAL NOT NULL,
    PRIMARY KEY (number, key, attempt)
);
CREATE TABLE IF NOT EXISTS pending_ack (  -- a future acknowledgement by the customer's phone
    number   TEXT NOT NULL,
    key      TEXT NOT NULL,
    ack      INTEGER NOT NULL,
    due      REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS reaction (
    number   TEXT NOT NULL,
    about    TEXT NOT NULL,                   -- the message's key
    sender   TEXT NOT NULL,
    text     TEXT NOT NULL,
    PRIMARY KEY (number, about, sender)
);
CREATE TABLE IF NOT EXISTS action (  -- what a page did besides sending
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    at       REAL NOT NULL,
    number   TEXT NOT NULL,
    kind     TEXT NOT NULL,                   -- edit, revoke, forget, react, seen, typing, exists, reject
    chat     TEXT NOT NULL,
    about    TEXT NOT NULL,
    text     TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS page_update (  -- for the pages of a number or of one device
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    audience TEXT NOT NULL,                   -- a number or a device
    body     TEXT NOT NULL                    -- JSON
);
CREATE TABLE IF NOT EXISTS media (
    id       TEXT PRIMARY KEY,
    mimetype TEXT NOT NULL,
    filename TEXT,
    size     INTEGER NOT NULL,
    hash     TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS absent (number TEXT PRIMARY KEY);  -- numbers that are not on WhatsApp
CREATE INDEX IF NOT EXISTS message_chat ON message (number, chat, seq);
CREATE INDEX IF NOT EXISTS pending_ack_due ON pending_ack (due);
CREATE INDEX IF NOT EXISTS page_update_audience ON page_update (audience, seq);
""")  # fmt: skip
