"""`docs/reference/log-events.md`: the names of all log events."""

import sys
from collections import defaultdict
from pathlib import Path

from markdown_table import table

sys.path.insert(0, str(Path(__file__).parents[1]))

from log_events import LogEvent, collect

INTRODUCTION = """\
# Log events

The names of the log events that the processes write, with their fields.

A log line is logfmt: `timestamp=… level=… event=session.state_changed state=WORKING`. A name stays the same from \
release to release, so alerts and searches may rely on it. Fields may be added. Values are in fields, never in names.

A warning or an error is written once a minute while it repeats with the same values, as in an outage. `repeated` is \
then the number of equal lines that were left out before it. Lines with a traceback are always written.
"""


def render() -> str:
    """The page."""
    events: dict[str, list[LogEvent]] = defaultdict(list)
    for event in collect():
        if event.name is not None:
            events[event.name].append(event)
    rows = [
        (f"`{name}`", ", ".join(sorted({event.level for event in found})), _fields(found), _places(found))
        for name, found in sorted(events.items())
    ]
    return f"{INTRODUCTION}\n{table(('event', 'level', 'fields', 'written by'), rows)}\n"


def _fields(events: list[LogEvent]) -> str:
    names = dict.fromkeys(name for event in events for name in event.fields if name != "**")
    return ", ".join(f"`{name}`" for name in names)


def _places(events: list[LogEvent]) -> str:
    return ", ".join(f"`{path}`" for path in sorted({event.path for event in events}))
