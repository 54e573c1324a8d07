"""Shows process events on the terminal: a line each, or two where the terminal is narrow."""

import time
from collections.abc import Iterable
from typing import Any

from rich.text import Text

from bisnesctl import moments
from bisnesctl.database import event_rows
from bisnesctl.database.event_log import LoggedEvent
from bisnesctl.database.event_sentences import sentence
from bisnesctl.terminal import output, printable

#: Columns of the terminal that a sentence needs beside the time and the subject; with fewer, it goes below.
_SENTENCE_WIDTH = 60
#: Columns of the subject, at most; a longer name moves only its own sentence.
_SUBJECT_WIDTH = 14
_WIDE_SUBJECT_WIDTH = 24
#: Columns from which a terminal is wide.
_WIDE_TERMINAL = 120
#: Columns by which a sentence below its event is indented.
_INDENT = 4
#: The colours of severities.
COLOURS = {"info": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


def as_dict(event: LoggedEvent) -> dict[str, Any]:
    """The event for programs."""
    return {
        "at": moments.iso(event.at),
        "subject": event.subject,
        "program": event.program,
        "instances": list(event.instances),
        "bot": event.bot or None,
        "kind": event.kind,
        "severity": event.severity,
        "text": sentence(event),
        "stored": event.id is not None,
        "data": event.data,
    }


def show(events: Iterable[LoggedEvent], indent: int = 0, with_subject: bool = True) -> None:
    """Prints events, which are in the order of their times. An end and a command take a row each."""
    found = event_rows.joined(events)
    is_wide = output.out().width >= _WIDE_TERMINAL
    limit = _WIDE_SUBJECT_WIDTH if is_wide else _SUBJECT_WIDTH
    subjects = [event_rows.subject(each, limit) if with_subject else "" for each in found]
    times = [short_time(each.at) for each in found]
    time_width = max(map(len, times), default=0) if is_wide else 0
    subject_width = min(max(map(len, subjects), default=0), limit)
    for each, at, subject in zip(found, times, subjects, strict=True):
        _print(each, f"{at:>{time_width}}", f"{printable.one_line(subject):<{subject_width}}", indent)


def short_time(at: float) -> str:
    """A time without the date if that is today's."""
    return moments.shown(at).removeprefix(time.strftime("%Y-%m-%d ", time.localtime()))


def _print(event: LoggedEvent, at: str, subject: str, indent: int) -> None:
    console = output.out()
    colour = COLOURS.get(event.severity, "red")
    head = Text.assemble((at, "dim"), "  ", (f"{event.severity:<8}", colour), "  ")
    if subject:
        head.append(f"{subject}  ", "bold")
    words = Text(printable.one_line(sentence(event)))
    beside = head.cell_len
    if console.width - indent - beside >= min(_SENTENCE_WIDTH, words.cell_len):
        first, *rest = [words] if output.is_piped() else words.wrap(console, console.width - indent - beside)
        output.print_indented(head + first, indent)
        for line in rest:
            output.print_indented(line, indent + beside)
        return
    head.rstrip()
    output.print_indented(head, indent)
    output.print_indented(words, indent + _INDENT)
