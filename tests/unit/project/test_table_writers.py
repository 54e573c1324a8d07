"""A table with many readers has few writers, so that its rules are in one place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: The files that may write a table.
WRITERS = {
    "wa_session": {"services/connectors/wwebjs/session/status_store.py", "bisnesctl/bots/web_sessions.py"},
}


@pytest.mark.parametrize("table", WRITERS)
def test_only_the_named_files_write_the_table(table):
    statement = re.compile(rf"\b(UPDATE|INSERT INTO|DELETE FROM)\s+{table}\b")
    files = [path for room in ("bisnesctl", "services") for path in (ROOT / room).rglob("*.py")]
    assert {str(each.relative_to(ROOT)) for each in files if statement.search(each.read_text())} == WRITERS[table]
