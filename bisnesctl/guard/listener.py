"""supervisord's event-listener protocol: events arrive on our input, and only protocol answers go to our output."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True)
class SupervisorEvent:
    """One event of supervisord. `serial` counts the events of one supervisord process."""

    serial: int
    name: str  # PROCESS_STATE_EXITED, …
    fields: dict[str, str]  # processname, groupname, from_state, …


def events(source: TextIO, answers: TextIO) -> Iterator[SupervisorEvent]:
    """The events as they arrive, each acknowledged before it is returned; ends with supervisord."""
    while True:
        answers.write("READY\n")
        answers.flush()
        header = _pairs(source.readline())
        if not header:
            return
        fields = _pairs(source.read(int(header["len"])).partition("\n")[0])
        answers.write("RESULT 2\nOK")
        answers.flush()
        yield SupervisorEvent(int(header["serial"]), header["eventname"], fields)


def _pairs(line: str) -> dict[str, str]:
    return dict(pair.split(":", 1) for pair in line.split() if ":" in pair)
