-- Process isolation: each bot is known to belong to a process, and processes report their health.
--
-- May be run again at any time, by hand as well (psql "$DATABASE_URL" -f 002_process_isolation.sql); the old server
-- keeps working on the migrated database.

ALTER TABLE phone_configs ADD COLUMN IF NOT EXISTS process_name varchar(20);
ALTER TABLE phone_status ADD COLUMN IF NOT EXISTS process_name varchar(20);

CREATE OR REPLACE FUNCTION process_of(connection_type text) RETURNS varchar LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN connection_type IN ('meta_direct', 'meta_embedded', '360dialog') THEN 'meta' ELSE 'wwebjs' END
$$;

UPDATE phone_configs SET process_name = process_of(connection_type)
WHERE process_name IS DISTINCT FROM process_of(connection_type);
UPDATE phone_status SET process_name = process_of(connection_type)
WHERE process_name IS DISTINCT FROM process_of(connection_type);

CREATE OR REPLACE FUNCTION set_process_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.process_name := process_of(NEW.connection_type);
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS set_process_name ON phone_configs;
CREATE TRIGGER set_process_name BEFORE INSERT OR UPDATE OF connection_type ON phone_configs
    FOR EACH ROW EXECUTE FUNCTION set_process_name();
DROP TRIGGER IF EXISTS set_process_name ON phone_status;
CREATE TRIGGER set_process_name BEFORE INSERT OR UPDATE OF connection_type ON phone_status
    FOR EACH ROW EXECUTE FUNCTION set_process_name();

CREATE INDEX IF NOT EXISTS idx_phone_configs_process ON phone_configs (process_name, status)
    WHERE process_name IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_phone_status_process ON phone_status (process_name, status)
    WHERE process_name IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_phone_configs_connection_type ON phone_configs (connection_type, company_id)
    WHERE connection_type IS NOT NULL;

CREATE TABLE IF NOT EXISTS process_health (
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
INSERT INTO process_health (process_name) VALUES ('api'), ('wwebjs'), ('meta') ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS process_metrics (
    id           bigserial    PRIMARY KEY,
    process_name varchar(20)  NOT NULL,
    metric_name  varchar(100) NOT NULL,
    metric_value numeric      NOT NULL,
    metric_type  varchar(20)  NOT NULL DEFAULT 'gauge',
    timestamp    timestamptz  NOT NULL DEFAULT now(),  -- kept 7 days
    metadata     jsonb        NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS idx_process_metrics_time ON process_metrics (process_name, metric_name, timestamp);

CREATE TABLE IF NOT EXISTS process_events (
    id           bigserial    PRIMARY KEY,
    process_name varchar(20)  NOT NULL,
    event_type   varchar(100) NOT NULL,
    event_data   jsonb        NOT NULL DEFAULT '{}',
    severity     varchar(20)  NOT NULL DEFAULT 'info' CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    timestamp    timestamptz  NOT NULL DEFAULT now()   -- info and warning kept 30 days, error and critical for good
);
CREATE INDEX IF NOT EXISTS idx_process_events_time ON process_events (process_name, timestamp);

-- An earlier form of the view with other columns cannot be replaced; where it can, it keeps its grants.
DO $do$
DECLARE
    definition text := $view$
SELECT h.process_name, h.status, h.last_heartbeat, h.error_count, h.last_error, h.uptime_seconds, h.memory_usage_mb,
       h.cpu_usage_percent, h.active_connections, h.messages_processed, h.created_at, h.updated_at,
       CASE WHEN h.last_heartbeat > now() - interval '30 seconds' THEN 'healthy'
            WHEN h.last_heartbeat > now() - interval '60 seconds' THEN 'degraded'
            ELSE 'down' END AS computed_status,
       extract(epoch FROM now() - h.last_heartbeat)::float AS seconds_since_heartbeat,
       (SELECT count(*) FROM phone_configs c WHERE c.process_name = h.process_name
           AND c.status IN ('active', 'connected', 'ready')) AS active_bots
FROM process_health h$view$;
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW v_process_health_overview AS' || definition;
EXCEPTION WHEN invalid_table_definition THEN
    DROP VIEW v_process_health_overview;
    EXECUTE 'CREATE VIEW v_process_health_overview AS' || definition;
END $do$;
