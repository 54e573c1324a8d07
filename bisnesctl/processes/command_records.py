"""Commands of operators that start or stop something: who typed what, when, and which programs it concerned.

A command leaves a file in `run/commands/`; the guard stores it in `process_events` and deletes it. So a command needs
no database, and what was typed while the guard was down is stored later.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bisnesctl.host import record_folder
from bisnesctl.processes.stop_records import operator
from bisnesctl.processes.topology import Instance

#: The folder of the files, below `run_dir`.
FOLDER = "commands"
#: The action of cron, which starts again what went down.
HEAL = "heal"
#: Files that wait for a guard, at most.
MAX_FILES = 1000


@dataclass(frozen=True)
class CommandRecord:
    """One command."""

    #: start, stop, restart, rollback or heal.
    action: str
    #: Seconds since the epoch.
    at: float
    user: str
    #: The terminal; empty if there was none.
    tty: str
    pid: int
    #: The words after `bisnesctl`.
    command: str
    #: The instances that it concerned, with their programs: name → program.
    instances: dict[str, str]

    @property
    def event(self) -> str:
        """The kind of its process events."""
        return "process_healed" if self.action == HEAL else f"operator_{self.action}"

    @property
    def severity(self) -> str:
        """The severity of its process events: something went down before cron started it again."""
        return "warning" if self.action == HEAL else "info"

    def by_program(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The programs that it concerned, each with the data of its process event."""
        for program in sorted(set(self.instances.values())):
            names = sorted(name for name, own in self.instances.items() if own == program)
            yield program, {"user": self.user, "tty": self.tty, "pid": self.pid, "command": self.command,
                            "instances": names}  # fmt: skip


def write(run_dir: Path, action: str, instances: Iterable[Instance]) -> None:
    """Records a command of this process that changes these, if any. A full disk must not prevent the command."""
    concerned = {each.name: each.program.name for each in instances}
    if not concerned:
        return
    record = CommandRecord(action, time.time(), operator(), _terminal(), os.getpid(), " ".join(sys.argv[1:]), concerned)
    record_folder.add(run_dir / FOLDER, record.at, json.dumps(asdict(record)).encode(), MAX_FILES)


def waiting(run_dir: Path) -> list[CommandRecord]:
    """The recorded commands that no guard has taken yet, oldest first."""
    found = []
    for file in sorted((run_dir / FOLDER).glob("[!.]*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(CommandRecord(**json.loads(file.read_text())))
    return found


def take(run_dir: Path) -> Iterator[CommandRecord]:
    """The recorded commands, oldest first; each is deleted when the next one is asked for."""
    for file in record_folder.files(run_dir / FOLDER):
        with contextlib.suppress(OSError):
            with contextlib.suppress(ValueError, TypeError):
                yield CommandRecord(**json.loads(file.read_text()))
            file.unlink()


def _terminal() -> str:
    with contextlib.suppress(OSError):
        return os.ttyname(0)
    return ""
