"""The process events of a deployment: stored ones, those that the guard keeps, and commands that no guard has seen."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bisnesctl.database import event_log
from bisnesctl.database.event_log import EventFilter, EventLog, LoggedEvent
from bisnesctl.errors import UsageError
from bisnesctl.naming import SUPERVISORD
from bisnesctl.processes import command_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.extras import program_of
from bisnesctl.processes.selection import ALIASES
from bisnesctl.processes.topology import PROGRAMS, Instance
from bisnesctl.settings import Settings

#: How similar a known name must be to an unknown one to be suggested, from 0 to 1.
_SIMILARITY = 0.6
#: Names that are suggested, at most.
_MAX_SUGGESTIONS = 3
_BOT = re.compile(r"(?P<company>.+)[-/](?P<phone>\d{1,9})", re.ASCII | re.DOTALL)


def read(deployment: Deployment, wanted: EventFilter, count_older: bool = False) -> EventLog:
    """The newest events that are wanted. `count_older`: whether events beyond the limit are to be counted."""
    return event_log.read(deployment.settings, wanted, _commands(deployment.settings), count_older)


def _commands(settings: Settings) -> list[LoggedEvent]:
    return [
        LoggedEvent(record.at, program, record.event, record.severity, details)
        for record in command_records.waiting(settings.run_dir)
        for program, details in record.by_program()
    ]


def named(names: Iterable[str], instances: Sequence[Instance], wanted: EventFilter) -> EventFilter:
    """The filter for events of these programs, instances, aliases, bots and supervisord.

    A bot need not exist any more, and neither need an instance of a program. Raises `UsageError` with similar names.
    """
    known = {each.name for each in PROGRAMS}
    own = {each.name for each in instances}
    programs, chosen, bots = list(wanted.programs), list(wanted.instances), list(wanted.bots)
    for name in names:
        if meant := [each for each in ALIASES.get(name, (name,)) if each in known]:
            programs += meant
        elif name == SUPERVISORD:
            programs.append(name)
        elif name in own or program_of(name) is not None:
            chosen.append(name)
        elif bot := as_bot(name):
            bots.append(f"{bot[0]}-{bot[1]}")
        else:
            raise UsageError(f"there is no program, instance or bot {name}{suggestion(name, [*own, *known])}")
    return replace(wanted, programs=tuple(programs), instances=tuple(chosen), bots=tuple(bots))


def as_bot(name: str) -> tuple[str, int] | None:
    """The company and the phone index in `0128-2` or `0128/2`; None if it is no bot's name."""
    found = _BOT.fullmatch(name)
    return (found["company"], int(found["phone"])) if found else None


def suggestion(name: str, known: Sequence[str]) -> str:
    """The known names that are similar to an unknown one, as the end of a message."""
    close = difflib.get_close_matches(name, known, _MAX_SUGGESTIONS, _SIMILARITY)
    if close:
        return f": did you mean {' or '.join(dict.fromkeys(close))}?"
    return ": `bisnesctl status` and `bisnesctl bots list` show all names"
