"""Migration files: their numbers, and their statements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.database import migrations
from bisnesctl.database.migrations import statements

BODY = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $body$\n  SELECT 1; -- $$ ; $$\n$body$;"
STATEMENTS = st.sampled_from(
    [
        "SELECT 1;",
        "SELECT ';',\n 'it''s;';",
        'SELECT 1 AS ";";',
        "SELECT 1 -- one; two\n + 1;",
        "SELECT /* a;\nb */ 1;",
        "DO $$ BEGIN\n  PERFORM 1;\nEND $$;",
        BODY,
    ]
)
BLANKS = st.lists(st.sampled_from([" ", "\n", "-- a; comment's\n", "/* ; $$ ' */", "\n\n"])).map("".join)


@given(st.lists(st.tuples(BLANKS, STATEMENTS)), BLANKS)
def test_a_file_is_split_into_its_statements(parts: list[tuple[str, str]], end: str) -> None:
    sql = "".join(blank + statement for blank, statement in parts) + end
    cut = list(statements(sql))
    assert [text for _, text in cut] == [statement for _, statement in parts]
    for line, text in cut:
        assert text.splitlines()[0] in sql.splitlines()[line - 1]


def test_the_last_statement_may_lack_its_semicolon() -> None:
    assert list(statements("SELECT 1;\n-- and\nSELECT 2\n")) == [(1, "SELECT 1;"), (3, "SELECT 2\n")]


@given(st.text(alphabet="ab;'\"$\n ", max_size=60))
def test_only_blank_text_is_left_out(sql: str) -> None:
    assert _letters("".join(text for _, text in statements(sql))) == _letters(sql)


def _letters(text: str) -> str:
    return "".join(text.replace(";", "").split())


def test_an_empty_statement_is_skipped() -> None:
    assert list(statements("; -- nothing\n;\nSELECT 1;;")) == [(3, "SELECT 1;")]


def test_each_shipped_migration_has_a_number_of_its_own() -> None:
    versions = [each.version for each in migrations.available()]
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("migration", migrations.available(), ids=lambda each: each.name)
def test_a_migration_leaves_its_transaction_to_the_tool(migration: migrations.Migration) -> None:
    words = {text.split()[0].rstrip(";").upper() for _, text in statements(migration.sql)}
    assert not words & {"BEGIN", "COMMIT", "ROLLBACK"}
