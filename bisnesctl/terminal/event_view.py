"""Shows process events on the terminal: a line each, or two where the terminal is narrow."""

from collections.abc import Iterable
from typing import Any

from rich.text import Text

from bisnesctl import moments
from bisnesctl.database.event_log import LoggedEvent
from bisnesctl.database.event_sentences import sentence
from bisnesctl.terminal import output, printable

#: Columns of the terminal that a sentence needs beside the time and the subject; with fewer, it goes below.
_SENTENCE_WIDTH = 60
#: Columns by which a sentence below its event is indented.
_INDENT = 4
_COLOURS = {"info": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


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
    """Prints events in this order."""
    found = list(events)
    width = max((len(each.subject) for each in found), default=0) if with_subject else 0
    for each in found:
        _print(each, width, indent, with_subject)


def _print(event: LoggedEvent, subject_width: int, indent: int, with_subject: bool) -> None:
    console = output.out()
    colour = _COLOURS.get(event.severity, "red")
    head = Text.assemble((moments.shown(event.at), "dim"), "  ", (f"{event.severity:<8}", colour))
    if with_subject:
        head.append(f"  {printable.one_line(event.subject)}", "bold")
    words = Text(printable.one_line(sentence(event)))
    beside = head.cell_len + max(subject_width - len(event.subject), 0) + 2
    if console.width - indent - beside >= min(_SENTENCE_WIDTH, words.cell_len):
        head.append(" " * (beside - head.cell_len))
        first, *rest = [words] if output.is_piped() else words.wrap(console, console.width - indent - beside)
        output.print_indented(head + first, indent)
        for line in rest:
            output.print_indented(line, indent + beside)
        return
    output.print_indented(head, indent)
    output.print_indented(words, indent + _INDENT)
