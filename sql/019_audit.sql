-- The audit trail: who did what, when, from where, and with which outcome.

CREATE TABLE IF NOT EXISTS audit_record (
    id           uuid             PRIMARY KEY,           -- made with the record, so that it is delivered once
    at           timestamptz      NOT NULL,
    source       text             NOT NULL CHECK (source IN ('cli', 'api', 'guard', 'manager')),
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
CREATE INDEX IF NOT EXISTS audit_record_at ON audit_record (at);
