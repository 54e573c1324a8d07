"""The page about `status --json` has all keys, and only those."""

import re
from dataclasses import fields
from typing import Any

from bisnesctl.bots.check_records import BotTrouble
from bisnesctl.host.volumes import DiskTrouble
from bisnesctl.views.drift import Drift
from bisnesctl.views.machine import DiskUse, Machine
from bisnesctl.views.overview import Overview, ProcessRow
from tests.support.documents import ROOT

PAGE = (ROOT / "docs" / "reference" / "status-json.md").read_text()
#: The keys that `status --json` had first; programs of others read them.
FIRST_KEYS = {
    Overview: "home mode sandbox since supervisor_pid condition start_command processes bots disks",
    ProcessRow: "name program status pid uptime_seconds cpu_percent memory_bytes restarts reason",
}


def keys(row: Any) -> set[str]:
    return {each.name for each in fields(row)}


def documented(section: str) -> set[str]:
    """The keys in the first column of a section's table."""
    text = PAGE.split(f"\n## {section}", 1)[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def test_every_key_is_documented_and_no_other() -> None:
    assert documented("The deployment") == keys(Overview)
    assert documented("`processes`") == keys(ProcessRow)
    assert documented("`bots`") == keys(BotTrouble)
    assert documented("`machine`") == keys(Machine)
    assert documented("`disks`") == keys(DiskTrouble)
    assert documented("`drift`") == keys(Drift)
    assert all(f"`{name}`" in PAGE for name in keys(DiskUse))


def test_no_key_was_removed() -> None:
    for row, names in FIRST_KEYS.items():
        assert set(names.split()) <= keys(row)
