"""The rows of the live screen: processes and bots, filtered and sorted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bisnesctl.bots.store import Bot
from bisnesctl.naming import SESSION, session_name
from bisnesctl.processes.topology import Kind
from bisnesctl.views.overview import ProcessRow

#: The group of the rows of bots.
BOTS = "bots"
#: The groups in their order on the screen.
GROUPS = (*(kind.value for kind in Kind), BOTS)


class Level(StrEnum):
    """How well a row is, which gives its sign and its colour."""

    GOOD = "good"
    IDLE = "idle"
    NOTICE = "notice"
    BAD = "bad"


class Sort(StrEnum):
    """The orders of rows: in groups by name, or with the largest value first."""

    NAME = "name"
    CPU = "cpu"
    MEMORY = "memory"
    RESTARTS = "restarts"
    WAITING = "waiting"

    @property
    def next(self) -> "Sort":
        """The order after this one."""
        found = list(Sort)
        return found[(found.index(self) + 1) % len(found)]


@dataclass(frozen=True)
class Row:
    """A process or a bot."""

    name: str
    group: str
    state: str
    level: Level
    reason: str = ""
    restarts: int = 0
    recent_restarts: int = 0
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    #: None: not known, or nothing ever waits for it.
    waiting: int | None = None
    #: The instance that runs for it alone; empty: a bot that shares its processes with others.
    process: str = ""
    #: The bot that it is or that it serves alone, as `<company>-<phone index>`; else empty.
    bot: str = ""
    is_paused: bool = False
    #: None: it does not run, or it is a bot.
    uptime_seconds: float | None = None

    @property
    def key(self) -> str:
        """Identifies it among all rows."""
        return f"{'bot' if self.group == BOTS else 'process'} {self.name}"

    @property
    def words(self) -> str:
        """The words in which a filter looks."""
        return f"{self.name} {self.group} {self.state} {self.reason}".lower()

    @property
    def is_bot(self) -> bool:
        """Whether it is a bot."""
        return self.group == BOTS


_LEVELS = {
    "healthy": Level.GOOD,
    "stopped": Level.IDLE,
    **dict.fromkeys(("outdated", "extra", "degraded", "starting", "stopping"), Level.NOTICE),
}
_COUNTS: Mapping[Sort, str] = {
    Sort.CPU: "cpu_percent",
    Sort.MEMORY: "memory_bytes",
    Sort.RESTARTS: "restarts",
    Sort.WAITING: "waiting",
}


def rows_of(processes: Iterable[ProcessRow], bots: Iterable[Bot], causes: Mapping[str, str] | None = None) -> list[Row]:
    """All rows, in groups. `causes`: why bots send nothing, by their names."""
    listed = list(bots)
    paused = {_name(each) for each in listed if each.paused is not None}
    found = [
        *(_process(each, paused) for each in processes),
        *(_bot(each, (causes or {}).get(_name(each), "")) for each in listed),
    ]
    return sorted(found, key=lambda row: GROUPS.index(row.group))


def matching(rows: Iterable[Row], words: str) -> list[Row]:
    """The rows in whose name, group, state or reason each of the words occurs."""
    wanted = words.lower().split()
    return [row for row in rows if all(word in row.words for word in wanted)]


def ordered(rows: Sequence[Row], sort: Sort) -> list[Row]:
    """The rows in an order; those without a value come last."""
    field = _COUNTS.get(sort)
    if field is None:
        return list(rows)
    return sorted(rows, key=lambda row: -1.0 if getattr(row, field) is None else getattr(row, field), reverse=True)


def _process(row: ProcessRow, paused: set[str]) -> Row:
    bot = row.name.removeprefix(f"{SESSION}-") if row.program == SESSION else ""
    level = _LEVELS.get(row.status, Level.BAD)
    if level is Level.GOOD and row.session not in (None, "WORKING"):
        level = Level.NOTICE
    return Row(
        row.name, row.kind, row.status, level, row.reason, row.restarts, row.recent_restarts, row.cpu_percent,
        row.memory_bytes, row.memory_limit_bytes, row.waiting, process=row.name, bot=bot, is_paused=bot in paused,
        uptime_seconds=row.uptime_seconds,
    )  # fmt: skip


def _bot(bot: Bot, cause: str) -> Row:
    state, level, reason = _state(bot)
    own = session_name(bot.company, bot.phone) if bot.process == "wwebjs" else ""
    return Row(
        _name(bot), BOTS, state, level, cause or reason, waiting=bot.waiting, process=own, bot=_name(bot),
        is_paused=bot.paused is not None,
    )  # fmt: skip


def _state(bot: Bot) -> tuple[str, Level, str]:
    """The worst that is known of a bot: in one word, and the reason."""
    if bot.blocked_until is not None:
        return "blocked", Level.BAD, bot.blocked_reason or ""
    if bot.paused is not None:
        return "paused", Level.NOTICE, ": ".join(filter(None, (f"by {bot.paused['by']}", bot.paused["reason"])))
    if bot.outage is not None and bot.held_until != "infinity":
        return "unavailable", Level.BAD, f"{bot.outage['code']}: {bot.outage['reason']}"
    if bot.held_until is not None:
        return "held", Level.BAD, bot.held_reason or ""
    if bot.session is not None and bot.session != "WORKING":
        return bot.session.lower(), Level.NOTICE, bot.session_reason or ""
    if bot.check in ("warning", "error"):
        level = Level.NOTICE if bot.check == "warning" else Level.BAD
        return bot.check, level, str(bot.problems[0].get("text") or "") if bot.problems else ""
    return bot.status or "active", Level.GOOD, ""


def _name(bot: Bot) -> str:
    return f"{bot.company}-{bot.phone}"
