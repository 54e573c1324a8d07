"""supervisord's protocol for listeners: it writes events to our input, and our output is for its answers alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class Event:
    """One event. `serial` counts them in the life of one supervisord."""

    serial: int
    name: str  # PROCESS_STATE_EXITED, …
    facts: dict[str, str]  # processname, groupname, from_state, …


def events(source: TextIO, answers: TextIO) -> Iterator[Event]:
    """The events as they come, each acknowledged before it is handed on; ends with supervisord."""
    while True:
        answers.write("READY\n")
        answers.flush()
        header = _pairs(source.readline())
        if not header:
            return
        facts = _pairs(source.read(int(header["len"])).partition("\n")[0])
        answers.write("RESULT 2\nOK")
        answers.flush()
        yield Event(int(header["serial"]), header["eventname"], facts)


def _pairs(line: str) -> dict[str, str]:
    return dict(pair.split(":", 1) for pair in line.split() if ":" in pair)
