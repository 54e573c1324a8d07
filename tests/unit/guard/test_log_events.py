"""The guard logs events with stable names; values are fields."""

import ast
import re
from pathlib import Path

import bisnesctl.guard
from bisnesctl.database import process_events

EVENT_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


def literal_events() -> set[str]:
    found = set()
    for path in (*Path(bisnesctl.guard.__path__[0]).glob("*.py"), Path(process_events.__file__)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("log.", "LoggedCondition")):
                words = [each.value for each in node.args if isinstance(each, ast.Constant)]
                found |= {word for word in words if isinstance(word, str)}
    return found


def test_every_event_has_a_dotted_name() -> None:
    events = literal_events()
    assert {"instance.restarted", "guard.failed", "process_events.storing_paused"} <= events
    assert [each for each in events if not EVENT_NAME.fullmatch(each)] == []
