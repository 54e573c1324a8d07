"""Joins events that mean one thing for people: a command that concerned several programs, and an end with the guard's
decision about it. `--json` and the database keep each event.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bisnesctl.database.event_log import SEVERITIES, LoggedEvent

#: The ends of processes as supervisord reports them.
_ENDS = ("process_exited", "process_backoff", "process_fatal")
_HANG = "process_hung"
#: The guard's decisions about an end.
_DECISIONS = ("process_restarting", "process_blocked", "process_failed")
#: After these, a process lives again, and its next end is another one.
_BEGINNINGS = ("process_starting", "process_running", "process_stopped", "process_restored")
#: Seconds by which the guard may notice an end before supervisord reports it, or decide about it afterwards.
_EARLY_SECONDS = 5.0
#: Properties that tell one command from another.
_OF_COMMAND = ("user", "tty", "pid", "command")


def joined(events: Iterable[LoggedEvent]) -> list[LoggedEvent]:
    """These events, the oldest first, each end and each command once."""
    rows: list[LoggedEvent | None] = []
    ends: dict[str, list[int]] = {}  # of each instance, the rows of ends without a decision
    decisions: dict[str, int] = {}  # of each instance, the row of the decision about its last end
    commands: dict[tuple[object, ...], int] = {}
    for event in events:
        name = ", ".join(event.instances)
        if "command" in event.data:
            key = (event.kind, *(str(event.data.get(each)) for each in _OF_COMMAND))
            if (place := commands.setdefault(key, len(rows))) < len(rows):
                rows[place] = _one_command(rows[place] or event, event)
                continue
        elif event.kind in (*_ENDS, _HANG):
            place = decisions.get(name, -1)
            decided = rows[place] if place >= 0 else None
            if decided is not None and event.kind in _ENDS and event.at - decided.at <= _EARLY_SECONDS:
                rows[place] = _one_end(decided, [event])
                continue
            ends.setdefault(name, []).append(len(rows))
        elif event.kind in _DECISIONS:
            places = ends.pop(name, [])
            event = _one_end(event, [each for place in places if (each := rows[place]) is not None])
            for place in places:
                rows[place] = None
            decisions[name] = len(rows)
        elif event.kind in _BEGINNINGS:
            ends.pop(name, None)
            decisions.pop(name, None)
        rows.append(event)
    return sorted((each for each in rows if each is not None), key=lambda each: each.at)


def incomplete(events: Sequence[LoggedEvent], now: float) -> list[LoggedEvent]:
    """Those of these events to which another one may still come that makes one row with it: an end without a decision,
    and a decision about an end that is not reported, of the last seconds before `now`.
    """
    reported = {each.instances for each in events if each.kind in _ENDS}
    decided = {each.instances for each in events if each.kind in _DECISIONS}
    return [
        each
        for each in events
        if now - each.at < _EARLY_SECONDS
        and (
            (each.kind in (*_ENDS, _HANG) and each.instances not in decided)
            or (each.kind in _DECISIONS and each.instances not in reported)
        )
    ]


def _one_command(first: LoggedEvent, other: LoggedEvent) -> LoggedEvent:
    return replace(first, data={**first.data, "instances": [*dict.fromkeys((*first.instances, *other.instances))]})


def _one_end(decision: LoggedEvent, ends: Sequence[LoggedEvent]) -> LoggedEvent:
    """The decision, with the time at which supervisord reported the end, and the worst severity."""
    reported = [each.at for each in ends if each.kind in _ENDS]
    hangs = [each for each in ends if each.kind == _HANG]
    data = decision.data | ({"hung": True, "hangs": hangs[-1].data.get("hangs")} if hangs else {})
    severities = [] if decision.severity == SEVERITIES[0] else [each.severity for each in ends]
    worst = max((decision.severity, *severities), key=_rank)
    return replace(decision, at=min([decision.at, *reported]), severity=worst, data=data)


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def subject(event: LoggedEvent, width: int) -> str:
    """The one that an event is about, in about this many characters: `12 processes`, or `all` of a command."""
    names = event.instances
    if len(names) < 2 or len(event.subject) <= width:
        return event.subject
    words = [each for each in str(event.data.get("command") or "").split()[1:] if not each.startswith("-")]
    is_all = "command" in event.data and (not words or "all" in words)
    return "all" if is_all else f"{len(names)} processes"
