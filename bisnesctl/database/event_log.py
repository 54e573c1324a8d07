"""Reads process events: from `process_events`, and from files (`SPOOLS`) what is not stored there yet.

The files are read first and need no database, so that events of the last minutes are known during an outage too.
"""

import fnmatch
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bisnesctl.database import postgres
from bisnesctl.errors import BisnesError
from bisnesctl.naming import SESSION, session_name
from bisnesctl.settings import Settings

#: The files of process events that are not in the database yet, below the home, by the program that writes them.
SPOOLS = {"guard": "guard-spool.jsonl", "alerts": "alerts-spool.jsonl"}
#: The ending of the file whose events are being stored.
SENDING = ".sending"
#: The severities, mildest first.
SEVERITIES = ("info", "warning", "error", "critical")
#: Seconds to connect, and for the statement.
DATABASE_TIMEOUT_SECONDS = 2
#: Events that are returned if no limit is given.
DEFAULT_LIMIT = 50
#: The same if a time is given: enough for any hour that people read.
TIMED_LIMIT = 5000

_MATCHING = """
FROM process_events
WHERE (%(since)s IS NULL OR timestamp >= to_timestamp(%(since)s))
    AND (%(until)s IS NULL OR timestamp <= to_timestamp(%(until)s))
    AND (%(after)s IS NULL OR id > %(after)s)
    AND severity = ANY(%(severities)s)
    AND (%(kinds)s IS NULL OR event_type LIKE ANY(%(kinds)s))
    AND (NOT %(named)s OR process_name = ANY(%(programs)s) OR event_data ->> 'instance' = ANY(%(instances)s)
        OR event_data -> 'instances' ?| %(instances)s OR event_data ->> 'session' = ANY(%(bots)s)
        OR concat(event_data ->> 'company', '-', event_data ->> 'phoneIndex') = ANY(%(bots)s))"""
#: The SQL of a list.
READ = f"""
SELECT id, extract(epoch FROM timestamp)::float, process_name, event_type, severity, event_data {_MATCHING}
ORDER BY timestamp DESC, id DESC LIMIT %(limit)s"""
_COUNT = f"SELECT count(*) {_MATCHING}"


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One process event."""

    #: Seconds since the epoch.
    at: float
    program: str
    #: Such as `process_restarting` or `operator_stop`.
    kind: str
    severity: str
    data: dict[str, Any]
    #: Its number in the database; None: it is not stored there yet.
    id: int | None = None

    @property
    def instances(self) -> tuple[str, ...]:
        """The instances that it concerns; a command of an operator may concern several."""
        several = self.data.get("instances")
        if isinstance(several, list) and several:
            return tuple(str(each) for each in several)
        one = self.data.get("instance")
        return (str(one),) if one else ()

    @property
    def bot(self) -> str:
        """The bot that it concerns, as `<company>-<phone index>`; empty if it concerns none alone."""
        if session := self.data.get("session"):
            return str(session)
        if "company" in self.data and "phoneIndex" in self.data:
            return f"{self.data['company']}-{self.data['phoneIndex']}"
        return ""

    @property
    def key(self) -> str:
        """Identifies it, in the guard's files and in the database."""
        return f"{self.at:.4f} {self.program[:20]} {self.kind} {json.dumps(self.data, sort_keys=True)}"

    @property
    def subject(self) -> str:
        """The one that it is about: instances, or else a bot, or else a program."""
        return ", ".join(self.instances) or self.bot or self.program


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted. Without names: those of everything."""

    #: A program's own events, and those of all its instances.
    programs: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    #: As `<company>-<phone index>`; the events of their sessions are included.
    bots: tuple[str, ...] = ()
    #: Seconds since the epoch.
    since: float | None = None
    until: float | None = None
    #: The mildest severity.
    severity: str = SEVERITIES[0]
    #: Kinds, or patterns such as `operator_*`.
    kinds: tuple[str, ...] = ()
    limit: int = DEFAULT_LIMIT

    @property
    def severities(self) -> tuple[str, ...]:
        """The severities that are wanted."""
        return SEVERITIES[SEVERITIES.index(self.severity) :]

    @property
    def is_named(self) -> bool:
        """Whether only events of certain programs, instances or bots are wanted."""
        return bool(self.programs or self.instances or self.bots)

    def matches(self, event: LoggedEvent) -> bool:
        """Whether an event is wanted."""
        return (
            (self.since is None or event.at >= self.since)
            and (self.until is None or event.at <= self.until)
            and event.severity in self.severities
            and (not self.kinds or any(fnmatch.fnmatchcase(event.kind, each) for each in self.kinds))
            and (not self.is_named or self._names(event))
        )

    def _names(self, event: LoggedEvent) -> bool:
        return (
            event.program in self.programs
            or not set(event.instances).isdisjoint(self.instances)
            or (bool(event.bot) and event.bot in self.bots)
        )


@dataclass(frozen=True, slots=True)
class EventLog:
    """Events, newest first, and why those in the database are missing."""

    events: list[LoggedEvent] = field(default_factory=list)
    #: Empty if the database was read.
    unavailable: str = ""
    #: Older events that are wanted too, beyond the limit; 0 also if they were not to be counted.
    older: int = 0


def of_bots(wanted: EventFilter) -> EventFilter:
    """The same filter, so that a bot includes its session and a session its bot."""
    sessions = [session_name(*_split(bot)) for bot in wanted.bots]
    bots = [each.removeprefix(f"{SESSION}-") for each in wanted.instances if each.startswith(f"{SESSION}-")]
    return replace(
        wanted,
        instances=tuple(dict.fromkeys((*wanted.instances, *sessions))),
        bots=tuple(dict.fromkeys((*wanted.bots, *bots))),
    )


def read(
    settings: Settings, wanted: EventFilter, others: Iterable[LoggedEvent] = (), count_older: bool = False
) -> EventLog:
    """The newest events that are wanted. Never raises because of the database: `unavailable` says why it is missing.

    `others`: events that neither the database nor the guard has yet. `count_older`: whether events beyond the limit
    are to be counted.
    """
    wanted = of_bots(wanted)
    fresh = [each for each in (*read_spool(settings), *others) if wanted.matches(each)]
    unavailable, stored, beyond = "", [], 0
    try:
        with postgres.connected(settings.database_dsn, timeout=DATABASE_TIMEOUT_SECONDS) as connection:
            stored = read_stored(connection, wanted)
            if count_older and len(stored) == wanted.limit:
                beyond = postgres.query(connection, _COUNT, _values(wanted))[0][0] - len(stored)
    except BisnesError as error:
        unavailable = str(error)
    found = _unique([*stored, *fresh])
    older = max(beyond, 0) + len(found[wanted.limit :]) if count_older else 0
    return EventLog(found[: wanted.limit], unavailable, older)


def read_stored(connection: postgres.Connection, wanted: EventFilter, after: int | None = None) -> list[LoggedEvent]:
    """The newest stored events. `after`: only those with a larger number."""
    rows = postgres.query(connection, READ, _values(wanted, after))
    return [LoggedEvent(row[1], row[2], row[3], row[4], row[5] or {}, row[0]) for row in rows]


def _values(wanted: EventFilter, after: int | None = None) -> dict[str, Any]:
    return {
        "since": wanted.since,
        "until": wanted.until,
        "after": after,
        "severities": list(wanted.severities),
        "kinds": [_like(each) for each in wanted.kinds] or None,
        "named": wanted.is_named,
        "programs": [each[:20] for each in wanted.programs],  # as the column has it
        "instances": list(wanted.instances),
        "bots": list(wanted.bots),
        "limit": wanted.limit,
    }


def read_spool(settings: Settings) -> list[LoggedEvent]:
    """The events that are not stored yet. An incomplete line is skipped."""
    spools = [settings.home / name for name in SPOOLS.values()]
    return [event for spool in spools for path in (spool.with_suffix(SENDING), spool) for event in _events_in(path)]


def _events_in(path: Path) -> Iterator[LoggedEvent]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            found = json.loads(line)
            yield LoggedEvent(
                float(found["at"]),
                str(found["process_name"]),
                str(found["event_type"]),
                str(found["severity"]),
                dict(found["event_data"]),
            )
        except (ValueError, KeyError, TypeError):
            continue


def _unique(events: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """These, the newest first, each once: an event that is being stored is in the file and in the database."""
    once: dict[str, LoggedEvent] = {}
    for each in events:
        once.setdefault(each.key, each)
    return sorted(once.values(), key=lambda each: (each.at, each.id or 0), reverse=True)


def _like(pattern: str) -> str:
    """A pattern of SQL with the meaning of `operator_*`."""
    escaped = pattern.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return escaped.replace("*", "%").replace("?", "_")


def _split(bot: str) -> tuple[str, int]:
    company, _, phone = bot.rpartition("-")
    return company, int(phone)
