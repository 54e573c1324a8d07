"""Contract steps of migrations: statements that remove what earlier releases need, each marked with the first release
that does not need it.

    -- contract since 0.3.0: nobody reads it any more
    ALTER TABLE bot_pace DROP COLUMN slow_factor;

All other statements must be additive: `violations` finds those that are not. A release that is older than a mark cannot
run on a database that has the migration.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bisnesctl.database.migrations import Migration, changed_tables, statements

_MARK = re.compile(r"^\s*--\s*contract since (?P<since>\d+(?:\.\d+)*)\s*:\s*\S", re.MULTILINE)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_TABLE = r"(?:IF EXISTS |ONLY )*(?:\w+\.)?\"?(?P<table>\w+)\"?"
_ALTER = re.compile(rf"^ALTER TABLE {_TABLE} (?P<actions>.+)$", re.DOTALL)
_INDEX = re.compile(r"^CREATE UNIQUE INDEX .*? ON (?:ONLY )?(?:\w+\.)?(?P<table>\w+)")
_DROP = re.compile(r"^DROP (?P<kind>\w+(?: VIEW)?) (?:IF EXISTS )?(?P<name>[\w.]+)")
#: The statements within a DO block that may not be additive.
_IN_BLOCK = re.compile(r"\b(?:ALTER|DROP|TRUNCATE|REVOKE|DELETE FROM|CREATE UNIQUE INDEX)\b[^;']*", re.IGNORECASE)
#: Objects that may be dropped if the same file makes them again, so that they only change.
_REPLACED = ("TRIGGER", "FUNCTION", "VIEW", "MATERIALIZED VIEW")
#: Statements that are never additive.
_NEVER = ("TRUNCATE", "REVOKE", "ALTER TYPE")


@dataclass(frozen=True)
class Violation:
    """A statement that an earlier release may not survive."""

    line: int
    #: The statement, shortened.
    statement: str
    why: str


def since(sql: str) -> str:
    """The first release that can run on a database with this migration; empty if every release can."""
    return max((found["since"] for found in _MARK.finditer(sql)), key=ordinal, default="")


def ordinal(version: str) -> tuple[int, ...]:
    """A version as numbers that can be compared. Words such as `rc1` do not count."""
    return tuple(int(each) for each in re.findall(r"\d+", re.split(r"[a-z+-]", version, maxsplit=1)[0]))


def violations(migration: Migration) -> list[Violation]:
    """The statements that are neither additive nor marked as contract steps."""
    created = {name.lower() for name in changed_tables(migration.sql)[0]}
    lines, added = migration.sql.splitlines(), _added_columns(migration.sql)
    found = []
    for line, statement in statements(migration.sql):
        inner = _IN_BLOCK.findall(statement) if statement.upper().startswith("DO ") else [statement]
        why = next((why for each in inner for why in _faults(_plain(each), created, added, migration.sql)), "")
        if why and not _is_marked(lines, line):
            found.append(Violation(line, " ".join(statement.split())[:80], why))
    return found


def _is_marked(lines: list[str], line: int) -> bool:
    """Whether the comment above a line marks it."""
    above = line - 2
    while above >= 0 and lines[above].lstrip().startswith("--"):
        if _MARK.match(lines[above]):
            return True
        above -= 1
    return False


def _plain(statement: str) -> str:
    """The statement without comments, in one line, with empty strings."""
    return " ".join(_STRING.sub("''", _COMMENT.sub(" ", statement)).split()).rstrip(";").strip()


def _added_columns(sql: str) -> set[str]:
    return {name.lower() for name in re.findall(r"ADD COLUMN (?:IF NOT EXISTS )?(\w+)", sql, re.IGNORECASE)}


def _faults(statement: str, created: set[str], added: set[str], whole: str) -> Iterator[str]:
    upper = statement.upper()
    yield from (f"{each} is not additive" for each in _NEVER if upper.startswith(each) and "ADD VALUE" not in upper)
    if dropped := _DROP.match(upper):
        yield from _dropped(dropped["kind"], dropped["name"], created, whole)
    if (altered := _ALTER.match(upper)) and altered["table"].lower() not in created:
        yield from _altered(altered["actions"], added)
    if (index := _INDEX.match(upper)) and index["table"].lower() not in created:
        columns = {name.lower() for name in re.findall(r"\w+", upper.rpartition("(")[2])}
        if not columns & added:
            yield "a unique index refuses rows that an earlier release writes"
    if upper.startswith(("DELETE FROM", "ALTER FUNCTION", "ALTER VIEW", "ALTER INDEX", "ALTER SEQUENCE")):
        yield "it removes or renames what an earlier release needs"


def _dropped(kind: str, name: str, created: set[str], whole: str) -> Iterator[str]:
    if kind == "INDEX" or name.lower() in created:
        return
    again = re.compile(rf"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?{kind} {re.escape(name)}\b", re.IGNORECASE)
    if kind in _REPLACED and again.search(" ".join(_COMMENT.sub(" ", whole).split())):
        return
    yield f"an earlier release needs the {kind.lower()} {name.lower()}"


def _altered(actions: str, added: set[str]) -> Iterator[str]:
    for action in _split(actions):
        upper = action.upper()
        column = re.match(r"ALTER (?:COLUMN )?(\w+)", upper)
        if upper.startswith(("DROP COLUMN", "DROP CONSTRAINT", "RENAME")) or re.match(r"DROP (?!CONSTRAINT)\w+", upper):
            is_relaxed = upper.startswith("DROP CONSTRAINT")
            yield "it widens a rule that an earlier release relies on" if is_relaxed else "an earlier release needs it"
        elif (
            upper.startswith("ADD COLUMN")
            and "NOT NULL" in upper
            and "DEFAULT" not in upper
            and "GENERATED" not in upper
        ):
            yield "an earlier release does not fill the new column: give it a DEFAULT"
        elif upper.startswith("ADD ") and re.match(r"ADD (CONSTRAINT|CHECK|UNIQUE|FOREIGN|PRIMARY|EXCLUDE)", upper):
            yield "a constraint refuses rows that an earlier release writes"
        elif column and column[1].lower() not in added and re.search(r" (TYPE|SET NOT NULL|DROP DEFAULT)\b", upper):
            yield "an earlier release writes the column as it was"
        elif upper.startswith(("ENABLE ROW", "FORCE ROW", "SET SCHEMA", "DISABLE TRIGGER")):
            yield "it hides what an earlier release needs"


def _split(actions: str) -> list[str]:
    """The actions of an ALTER TABLE: a comma in parentheses does not separate them."""
    parts, depth = [""], 0
    for sign in actions:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [each.strip() for each in parts if each.strip()]
