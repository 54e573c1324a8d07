"""What the manager does about the sessions' programs: a pure function of what is wanted and what there is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from bisnesctl.bots.web_sessions import WebSession
from bisnesctl.naming import session_name

#: Seconds for which a session counts as one that is starting, and so as one that needs a processor for itself.
STARTING_SECONDS = 60.0


class Program(Enum):
    """How a session's program is in supervisord."""

    FRESH = "fresh"  # it was not started yet
    ACTIVE = "active"
    ENDED = "ended"  # by itself, or stopped by name: the guard's business, or an operator's


@dataclass(frozen=True, slots=True)
class Idle:
    """A session that is not to run, and how it is to be shown."""

    session: WebSession
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order."""

    remove: list[str] = field(default_factory=list)  # names of programs
    idle: list[Idle] = field(default_factory=list)
    start: list[WebSession] = field(default_factory=list)
    later: bool = False  # more are to be started once those that are starting have


def plan(sessions: Sequence[WebSession], programs: Mapping[str, Program], most: int, at_once: int) -> Plan:
    """What makes the programs those of the sessions that are wanted and not blocked, the oldest `most` of them.

    `programs`: by name; `at_once`: how many may be starting at the same time.
    """
    able = sorted((each for each in sessions if each.wanted and each.block is None), key=lambda each: each.bot_id)
    chosen = {program_name(each): each for each in able[:most]}
    due = [each for name, each in chosen.items() if _is_due(each, programs.get(name))]
    room = max(at_once - sum(_is_starting(each, programs.get(name)) for name, each in chosen.items()), 0)
    return Plan(
        remove=[name for name in programs if name not in chosen],
        idle=[idle for each in sessions if program_name(each) not in chosen and (idle := _idle(each, most))],
        start=due[:room],
        later=len(due) > room,
    )


def is_elsewhere(session: WebSession, here: str, held: Collection[int], hosts: Collection[str]) -> bool:
    """Whether a session is another machine's to start, stop and judge.

    `held`: bots whose lock a process has; `hosts`: machines that show signs of life. If the machine of its last run
    is gone, it may be started here.
    """
    return session.host not in (None, here) and (session.bot_id in held or session.host in hosts)


def program_name(session: WebSession) -> str:
    """What supervisord calls its program."""
    return session_name(session.company, session.phone)


def _is_due(session: WebSession, program: Program | None) -> bool:
    """Whether it is to be started; what ended is, where somebody asked for a start since."""
    if program is Program.ENDED:
        return session.started_at is None
    return program is not Program.ACTIVE


def _is_starting(session: WebSession, program: Program | None) -> bool:
    if program is not Program.ACTIVE or session.state not in ("STOPPED", "STARTING"):
        return False
    # A start in the future is none: the database's clock was set back since.
    return session.ages.start is None or 0 <= session.ages.start < STARTING_SECONDS


def _idle(session: WebSession, most: int) -> Idle | None:
    """How one that is not to run is to be shown, where it is shown otherwise."""
    if session.block is not None:
        return None if session.state == "FAILED" else Idle(session, "FAILED", session.block.reason)
    if not session.wanted:
        return None if session.state == "STOPPED" else Idle(session, "STOPPED", "an operator stopped it")
    reason = f"{most} sessions run already (MAX_SESSIONS): stop another one, or raise it in .env"
    told = session.state == "STOPPED" and session.reason == reason
    return None if told else Idle(session, "STOPPED", reason)


def fattest(
    sessions: Sequence[WebSession], limit: float, recycled: Collection[int], busy: Collection[int]
) -> WebSession | None:
    """The session whose browser is to be renewed because all together use more than `limit` MB; None where none is.

    One after the other, so that it shows what is enough: none while a bot's session was `recycled` a short while ago.
    Where there is one, it is one for which no messages wait (`busy`).
    """
    running = [each for each in sessions if each.runs and each.memory_mb]
    total = sum(each.memory_mb or 0 for each in running)
    if total <= limit or any(each.bot_id in recycled for each in running):
        return None
    return max(running, key=lambda each: (each.bot_id not in busy, each.memory_mb))
