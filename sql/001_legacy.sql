-- The schema that the old system made, for a database that does not have it. Harmless on one that does.

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

CREATE TABLE IF NOT EXISTS phone_configs (
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
    UNIQUE (company_id, phone_index)
);

CREATE TABLE IF NOT EXISTS phone_status (
    id              serial       PRIMARY KEY,
    company_id      varchar(255) NOT NULL,
    phone_index     varchar(50)  NOT NULL DEFAULT '0',  -- as text, unlike everywhere else
    phone_number    varchar(50),
    status          varchar(50),
    last_seen       timestamp,
    metadata        jsonb        DEFAULT '{}',          -- the QR code is in it
    connection_type varchar(20),
    updated_at      timestamp    DEFAULT now()
);

CREATE TABLE IF NOT EXISTS messages (
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

CREATE TABLE IF NOT EXISTS contacts (
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
    UNIQUE (contact_id, company_id)
);
