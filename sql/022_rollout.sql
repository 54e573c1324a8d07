-- Rollouts: bots move to the other side by degrees, and back if the moved ones do worse.

CREATE TABLE IF NOT EXISTS rollout (
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
CREATE UNIQUE INDEX IF NOT EXISTS rollout_active ON rollout ((true)) WHERE ended_at IS NULL;

-- Hand-overs are in the audit trail too.
ALTER TABLE audit_record DROP CONSTRAINT IF EXISTS audit_record_source_check;
ALTER TABLE audit_record ADD CONSTRAINT audit_record_source_check
    CHECK (source IN ('cli', 'api', 'guard', 'manager', 'rollout'));
