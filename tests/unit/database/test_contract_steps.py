"""Which statements of a migration an earlier release survives."""

import pytest

from bisnesctl.database import contract_steps, migrations
from bisnesctl.database.migrations import Migration


def found(sql):
    return [each.line for each in contract_steps.violations(Migration(99, "099_test", sql))]


@pytest.mark.parametrize("migration", migrations.available(), ids=lambda each: each.name)
def test_every_migration_is_additive_or_marked(migration):
    assert contract_steps.violations(migration) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE lane;",
        "DROP TABLE IF EXISTS public.lane;",
        "ALTER TABLE lane DROP COLUMN fence;",
        "alter table lane drop column fence;",
        "ALTER TABLE IF EXISTS ONLY lane ADD COLUMN a text, DROP COLUMN IF EXISTS fence;",
        "ALTER TABLE lane RENAME COLUMN fence TO epoch;",
        "ALTER TABLE lane RENAME TO lanes;",
        "ALTER TABLE lane ALTER COLUMN fence TYPE numeric(10, 2);",
        "ALTER TABLE lane ALTER fence SET DATA TYPE integer;",
        "ALTER TABLE lane ALTER COLUMN unmarked SET NOT NULL;",
        "ALTER TABLE lane ALTER COLUMN fence DROP DEFAULT;",
        "ALTER TABLE lane ADD COLUMN a text NOT NULL;",
        "ALTER TABLE lane ADD COLUMN a numeric(1, 2) DEFAULT 1, ADD COLUMN b text NOT NULL;",
        "ALTER TABLE lane ADD CONSTRAINT c CHECK (fence > 0);",
        "ALTER TABLE lane ADD CHECK (fence > 0) NOT VALID;",
        "ALTER TABLE lane ADD FOREIGN KEY (bot_id) REFERENCES phone_configs;",
        "CREATE UNIQUE INDEX one ON lane (fence);",
        "CREATE UNIQUE INDEX IF NOT EXISTS one ON lane USING btree (lower(unmarked)) WHERE fence > 0;",
        "DROP VIEW v_process_health_overview;",
        "DROP FUNCTION forget_failed();",
        "DROP TRIGGER note_failed ON outbox;",
        "DROP TYPE message_status;",
        "ALTER TYPE message_status RENAME VALUE 'read' TO 'seen';",
        "TRUNCATE lane;",
        "DELETE FROM lane;",
        "REVOKE ALL ON lane FROM PUBLIC;",
        "DO $$ BEGIN ALTER TABLE lane DROP COLUMN fence; END $$;",
        "DO $$ BEGIN IF true THEN EXECUTE 'DROP TABLE lane'; END IF; END $$;",
    ],
)
def test_what_an_earlier_release_may_not_survive_is_refused_unless_it_is_marked(statement):
    assert found(f"-- a comment\n\n{statement}\n") == [3]
    assert found(f"-- contract since 0.3.0: nobody needs it\n{statement}\n") == []
    assert found(f"-- contract since 0.3.0: nobody needs it\n-- in two lines\n{statement}\n") == []
    assert found(f"-- contract since 0.3.0:\n{statement}\n") == [2]  # a reason is missing
    assert found(f"-- contract since 0.3.0: another one\nSELECT 1;\n{statement}\n") == [3]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE IF NOT EXISTS fresh (id bigint PRIMARY KEY, name text NOT NULL UNIQUE);",
        "CREATE TABLE fresh (id bigint); CREATE UNIQUE INDEX one ON fresh (id); ALTER TABLE fresh ADD CHECK (id > 0);",
        "ALTER TABLE lane ADD COLUMN IF NOT EXISTS a text NOT NULL DEFAULT '';",
        "ALTER TABLE lane ADD COLUMN a text CHECK (a IN ('x', 'y, z')), ADD COLUMN b integer DEFAULT 1 NOT NULL;",
        "ALTER TABLE lane ALTER COLUMN fence DROP NOT NULL;",
        "ALTER TABLE lane ALTER COLUMN fence SET DEFAULT 3;",
        "ALTER TYPE message_status ADD VALUE 'paused';",
        "CREATE INDEX IF NOT EXISTS slow ON lane (fence);",
        "DROP INDEX IF EXISTS slow;",
        "DROP TRIGGER IF EXISTS t ON lane; CREATE TRIGGER t AFTER INSERT ON lane EXECUTE FUNCTION f();",
        "ALTER TABLE lane ADD COLUMN a text; CREATE UNIQUE INDEX one ON lane (a);",
        "CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM lane; END $$;",
        "INSERT INTO setting VALUES ('DROP TABLE lane');",
        "COMMENT ON TABLE lane IS 'ALTER TABLE lane DROP COLUMN fence';",
        "UPDATE lane SET fence = 0 WHERE fence IS NULL;",
    ],
)
def test_additive_statements_are_accepted(statement):
    assert found(statement) == []


def test_the_first_release_that_survives_is_the_newest_that_a_file_names():
    sql = "-- contract since 0.9: a\nDROP TABLE a;\n-- contract since 0.10.1: b\nDROP TABLE b;"
    assert contract_steps.since(sql) == "0.10.1"
    assert contract_steps.since("-- the contract since 0.3.0\nSELECT 1;") == ""
    assert contract_steps.ordinal("0.10.0rc1") < contract_steps.ordinal("0.10.1")
