-- The peer's tables, in a database of its own.
CREATE TABLE api_keys (
    key_hash   bytea   PRIMARY KEY,
    company_id text    NOT NULL,
    revoked    boolean NOT NULL DEFAULT false
);

CREATE TABLE phone_configs (
    id                   serial  PRIMARY KEY,
    company_id           text    NOT NULL,
    phone_index          integer NOT NULL DEFAULT 0,
    connection_type      text    NOT NULL DEFAULT 'wwebjs',
    meta_phone_number_id text,
    meta_access_token    text,
    UNIQUE (company_id, phone_index)
);

CREATE TABLE messages (
    id          uuid        PRIMARY KEY,
    company_id  text        NOT NULL,
    chat_id     text        NOT NULL,
    phone_index integer     NOT NULL,
    content     text        NOT NULL,
    status      text        NOT NULL DEFAULT 'queued',
    external_id text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX messages_of_chat ON messages (company_id, chat_id, created_at);

INSERT INTO api_keys (key_hash, company_id)
SELECT sha256(convert_to('key-company-' || company, 'UTF8')), company
FROM (SELECT lpad(n::text, 4, '0') AS company FROM generate_series(1, 20) n) companies;

INSERT INTO phone_configs (company_id, connection_type, meta_phone_number_id, meta_access_token)
SELECT lpad(n::text, 4, '0'), 'meta_direct', (100000 + n)::text, 'token-' || (100000 + n)
FROM generate_series(1, 20) n;
