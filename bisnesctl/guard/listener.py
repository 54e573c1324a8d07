"""supervisord's event-listener protocol: events arrive on our input, and only protocol answers go to our output."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

import structlog

#: Characters of a line that is no header, as the log shows them.
MAX_SHOWN = 200
#: Characters of an event, at most. supervisord's own have a few hundred.
MAX_EVENT = 1 << 20

log = structlog.get_logger()


@dataclass(frozen=True)
class SupervisorEvent:
    """One event of supervisord. `serial` counts the events of one supervisord process."""

    serial: int
    name: str  # PROCESS_STATE_EXITED, …
    fields: dict[str, str]  # processname, groupname, from_state, …


@dataclass(frozen=True)
class _Header:
    serial: int
    name: str
    length: int


def events(source: TextIO, answers: TextIO) -> Iterator[SupervisorEvent]:
    """The events as they arrive, each acknowledged before it is returned; ends with supervisord.

    Lines that are no header are skipped without an answer: supervisord waits for none.
    """
    while True:
        answers.write("READY\n")
        answers.flush()
        header = _next_header(source)
        if header is None:
            return
        body = source.read(header.length)
        if len(body) < header.length:  # supervisord ended in the middle of it
            return
        answers.write("RESULT 2\nOK")
        answers.flush()
        yield SupervisorEvent(header.serial, header.name, _pairs(body.partition("\n")[0]))


def _next_header(source: TextIO) -> _Header | None:
    """The next header; None at the end of the input."""
    while line := source.readline():
        if header := _header(line):
            return header
        log.warning("guard.input_skipped", line=line[:MAX_SHOWN].strip())
    return None


def _header(line: str) -> _Header | None:
    """The header in a line; None if it is none. After a damaged event, the rest of that may precede it."""
    found = _pairs(line)
    try:
        header = _Header(int(found["serial"]), found["eventname"], int(found["len"]))
    except (KeyError, ValueError):
        return None
    return header if 0 <= header.length <= MAX_EVENT else None


def _pairs(line: str) -> dict[str, str]:
    return dict(pair.split(":", 1) for pair in line.split() if ":" in pair)
