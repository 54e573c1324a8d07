-- Quotas of companies, the files that count against them, and the steps of a takeover from the former system.

-- The limits of single companies; other companies have those of the settings.
CREATE TABLE IF NOT EXISTS company_quota (
    company_id varchar(255) NOT NULL,
    name       text         NOT NULL,   -- as bisnesctl/database/quotas.py lists them
    value      bigint       CHECK (value >= 0),  -- NULL: unlimited
    PRIMARY KEY (company_id, name)
);
DROP TRIGGER IF EXISTS announce_config ON company_quota;
CREATE TRIGGER announce_config AFTER INSERT OR UPDATE OR DELETE ON company_quota
    FOR EACH STATEMENT EXECUTE FUNCTION announce_config();

-- The files of the media store. Whoever stores or deletes a file locks its row meanwhile.
CREATE TABLE IF NOT EXISTS media_file (
    key        text         PRIMARY KEY,
    company_id varchar(255) NOT NULL,
    bytes      bigint       NOT NULL,
    uses       integer      NOT NULL,   -- how often it was stored for a message that was not refused
    created_at timestamptz  NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS media_file_company ON media_file (company_id) INCLUDE (bytes);

-- WhatsApp Web numbers that the former server may still run: no browser is opened for them here before an operator moves
-- them. Those that were linked here before are moved already.
CREATE TABLE IF NOT EXISTS former_number (
    bot_id   integer     PRIMARY KEY REFERENCES phone_configs ON DELETE CASCADE,
    since    timestamptz NOT NULL DEFAULT now(),
    moved_at timestamptz                -- NULL: the former server runs it
);
DO $$
DECLARE
    taken_over timestamp := now();
BEGIN
    IF to_regclass('schema_migrations') IS NOT NULL THEN
        SELECT COALESCE(min(applied_at)::timestamp, taken_over) INTO taken_over FROM schema_migrations WHERE version = 1;
    END IF;
    INSERT INTO former_number (bot_id)
    SELECT c.id FROM phone_configs c
    WHERE c.process_name = 'wwebjs' AND COALESCE(c.created_at <= taken_over, true)
        AND NOT EXISTS (SELECT FROM wa_session s WHERE s.bot_id = c.id AND s.bound_number IS NOT NULL)
    ON CONFLICT DO NOTHING;
END $$;

-- The secrets of webhooks of 360dialog that were rotated; all others are derived from ENCRYPTION_KEY.
CREATE TABLE IF NOT EXISTS dialog360_secret (
    bot_id             integer     PRIMARY KEY REFERENCES phone_configs ON DELETE CASCADE,
    secret_encrypted   text        NOT NULL,
    previous_encrypted text,                     -- accepted as well until previous_until
    previous_until     timestamptz
);
