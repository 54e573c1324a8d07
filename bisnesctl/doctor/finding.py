"""The result of a check, and a check as a row of the table."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bisnesctl.doctor.subject import Subject
from bisnesctl.errors import ExitCode

#: Seconds that a check may take, unless its row says otherwise.
CHECK_TIMEOUT_SECONDS = 8.0


class Level(StrEnum):
    """The level of a finding."""

    OK = "ok"
    WARNING = "warning"  # it works now, but not as it should
    ERROR = "error"  # a start or a deploy fails, or loses something
    SKIPPED = "skipped"  # it does not apply, or its condition does not hold


@dataclass(frozen=True)
class Finding:
    """One result: what is, what should be, and how to fix it."""

    level: Level
    found: str
    #: Empty if it is as it should be.
    wanted: str = ""
    #: A command to type, or a setting to change.
    fix: str = ""
    #: The exit code, if it is another one than that of the check.
    kind: ExitCode | None = None


def ok(found: str) -> Finding:
    """All is as it should be."""
    return Finding(Level.OK, found)


def warning(found: str, wanted: str, fix: str) -> Finding:
    """It works, but not as it should."""
    return Finding(Level.WARNING, found, wanted, fix)


def error(found: str, wanted: str, fix: str) -> Finding:
    """It prevents a start or a deploy."""
    return Finding(Level.ERROR, found, wanted, fix)


def skipped(reason: str) -> Finding:
    """It was not checked."""
    return Finding(Level.SKIPPED, reason)


def _always(_: Subject) -> str:
    return ""


@dataclass(frozen=True)
class Check:
    """A row of the table."""

    #: `<group>.<name>`.
    name: str
    #: The condition, for the reference.
    about: str
    run: Callable[[Subject], Finding]
    #: The exit code if it finds an error.
    kind: ExitCode = ExitCode.CONFIG
    #: Why it does not apply; empty if it does.
    not_applicable: Callable[[Subject], str] = _always
    seconds: float = CHECK_TIMEOUT_SECONDS

    @property
    def group(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]
