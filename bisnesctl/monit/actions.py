"""The actions of the live screen. Each is a command of this tool, with its lock, its record and its messages."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bisnesctl.errors import UsageError
from bisnesctl.monit.rows import Row


class Verb(StrEnum):
    """The actions."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    UNBLOCK = "unblock"
    PAUSE = "pause"


@dataclass(frozen=True)
class Outcome:
    """The end of a command."""

    words: tuple[str, ...]
    exit_code: int
    output: str

    @property
    def ok(self) -> bool:
        """Whether it did what it was typed for."""
        return self.exit_code == 0


def command_for(verb: Verb, row: Row) -> tuple[str, ...]:
    """The words of the command behind `bisnesctl`. Raises `UsageError` if the row has no such action."""
    company, _, phone = row.bot.rpartition("-")
    if verb in (Verb.START, Verb.STOP, Verb.RESTART):
        if not row.process:
            raise UsageError(f"bot {row.name} has no process of its own: select meta-worker to {verb} its workers")
        return (verb.value, row.process) + (() if verb is Verb.START else ("--yes",))
    if not row.bot:
        raise UsageError(f"{row.name} is no bot: select a bot to {verb} it")
    if verb is Verb.UNBLOCK:
        if not row.process:
            raise UsageError(f"bot {row.name} has no session that could be blocked: `bisnesctl why {row.name}`")
        return ("bots", "unblock", company, phone)
    return ("queue", "resume" if row.is_paused else "pause", f"{company}/{phone}", "--yes")


def run(words: Sequence[str]) -> Outcome:
    """Runs a command of this tool to its end. It continues if the screen ends."""
    ended = subprocess.run(
        [sys.executable, "-m", "bisnesctl", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env={**os.environ, "NO_COLOR": "1"}, start_new_session=True, check=False,
    )  # fmt: skip
    return Outcome(tuple(words), ended.returncode, ended.stdout.strip())
