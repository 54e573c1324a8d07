-- Several machines on one database.

-- Each claim of a lane has a number, so that a worker which slept beyond its lease is told apart from its successor. A
-- claim whose worker marks in the database what leaves also says that its message has not left yet: whoever takes over
-- sends it. `unmarked` has the name of the worker, since the version before leaves the column as it is.
ALTER TABLE lane ADD COLUMN IF NOT EXISTS fence    bigint NOT NULL DEFAULT 0;  -- grows by one with each claim
ALTER TABLE lane ADD COLUMN IF NOT EXISTS unmarked text;                       -- equals `claim` until its message may leave

-- Which deployment writes the row: two with the same names on one database must not run side by side.
ALTER TABLE process_instances ADD COLUMN IF NOT EXISTS deployment text;        -- NULL: a version that does not say

-- The one store that has the files of this database's messages.
CREATE TABLE IF NOT EXISTS media_store (
    one   boolean     PRIMARY KEY DEFAULT true CHECK (one),  -- one row
    id    text        NOT NULL,                              -- as in the marker of the folder, or the address of S3
    place text        NOT NULL,                              -- where it was when it was noted: <host>:<folder>, or the address
    since timestamptz NOT NULL DEFAULT now()
);
