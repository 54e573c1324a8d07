-- The side that serves a bot: the legacy process or the isolated processes.
--
-- A side claims messages only of bots that it owns, and of those without an owner: without a rollout no bot has one, and
-- the programs that run serve all. A claim has the epoch of the owner under which it was made. While a bot is handed
-- over, nobody claims its messages; if that is not completed in time, it stays with its owner, whoever may have died.

ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS owner       text CHECK (owner IN ('legacy', 'multiprocess'));
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS owner_epoch bigint;                                     -- grows with each change of the owner
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS owner_since timestamptz;
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS owner_by    text;                                       -- who changed it
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS next_owner  text;                                       -- the side that it is being handed over to
ALTER TABLE bot_pace ADD COLUMN IF NOT EXISTS drain_until timestamptz NOT NULL DEFAULT '-infinity';   -- until then nobody claims

ALTER TABLE lane ADD COLUMN IF NOT EXISTS epoch bigint;                         -- of the bot's owner when it was claimed

CREATE SEQUENCE IF NOT EXISTS owner_epoch;

-- The owner of bots that are added; no row: none.
CREATE TABLE IF NOT EXISTS new_bot_owner (
    process_name varchar(20) PRIMARY KEY,
    owner        text        NOT NULL CHECK (owner IN ('legacy', 'multiprocess'))
);

CREATE OR REPLACE FUNCTION number_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.owner IS DISTINCT FROM OLD.owner THEN
        NEW.owner_epoch := nextval('owner_epoch');
        NEW.owner_since := now();
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS number_owner ON bot_pace;
CREATE TRIGGER number_owner BEFORE UPDATE OF owner ON bot_pace FOR EACH ROW EXECUTE FUNCTION number_owner();

-- Every change is a process event, and the managers of the sessions hear of it at once.
CREATE OR REPLACE FUNCTION note_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO process_events (process_name, event_type, event_data)
    SELECT NEW.process_name, 'bot_owner_changed', jsonb_build_object('company', company_id, 'phoneIndex', phone_index,
        'session', company_id || '-' || phone_index, 'from', OLD.owner, 'to', NEW.owner, 'epoch', NEW.owner_epoch,
        'by', NEW.owner_by)
    FROM phone_configs WHERE id = NEW.bot_id;
    PERFORM pg_notify('bisnes_sessions', 'owner');
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS note_owner ON bot_pace;
CREATE TRIGGER note_owner AFTER UPDATE OF owner ON bot_pace FOR EACH ROW
    WHEN (OLD.owner IS DISTINCT FROM NEW.owner) EXECUTE FUNCTION note_owner();

-- A new bot belongs to the side that is to get new ones; a change of its connection leaves the owner.
CREATE OR REPLACE FUNCTION keep_bot_pace() RETURNS trigger LANGUAGE plpgsql AS $$
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
