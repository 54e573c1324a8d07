"""Runs commands of the tool for people: the dashboard changes things by the commands that an operator types.

So there is one mechanism, with the same checks, locks, and audit trail. A run continues if the dashboard ends, even if
the command restarts the dashboard: the shim spares it. Its record and its output are files in the folder of the
deployment.
"""

import contextlib
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from bisnesctl.audit.origin import ACTOR_VARIABLE, ORIGIN_VARIABLE
from bisnesctl.host import disk, file_lock
from bisnesctl.settings import Settings

#: The folder of records, below the home.
FOLDER = "dashboard-commands"
#: Runs that are kept.
MAX_RUNS = 200
#: Bytes of output that a page shows, from its end.
MAX_OUTPUT = 64 << 10
#: Seconds for a preview.
PREVIEW_SECONDS = 20.0
#: Seconds that the process of a run may take until it has locked its output.
START_SECONDS = 20.0
_ID = re.compile(r"[0-9]{10}-[0-9a-f]{8}")


@dataclass(frozen=True)
class CommandRun:
    """One run of a command."""

    id: str
    #: The words after `bisnesctl`.
    words: tuple[str, ...]
    person: str
    #: The company of the person; None: a person who sees all.
    company: str | None
    began_at: float
    ended_at: float | None = None
    #: The exit code; None while it runs.
    exit_code: int | None = None
    #: Whether its process ended without a word, for example because of a SIGKILL or a restart of the machine.
    lost: bool = False

    @property
    def line(self) -> str:
        """The command as it would be typed."""
        return shlex.join(["bisnesctl", *self.words])


class CommandRuns:
    """The runs of one deployment."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._folder = settings, settings.home / FOLDER

    def preview(self, words: Sequence[str]) -> str:
        """The effect of a command, as its `--dry-run` says, or why it would be refused."""
        return self.output_of([*words, "--dry-run"])

    def output_of(self, words: Sequence[str]) -> str:
        """The output of a command that changes nothing, or why it has none."""
        command = [sys.executable, "-m", "bisnesctl", *words]
        try:
            done = subprocess.run(
                command, env=self._environment(), capture_output=True, text=True, timeout=PREVIEW_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return f"`{shlex.join(['bisnesctl', *words])}` did not end within {PREVIEW_SECONDS:.0f} s"
        return (done.stdout + done.stderr).strip()

    def begin(self, words: Sequence[str], person: str, company: str | None, address: str) -> CommandRun:
        """Begins a run. Raises `OSError` if its record cannot be written."""
        run = CommandRun(f"{int(time.time()):010}-{secrets.token_hex(4)}", tuple(words), person, company, time.time())
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._prune()
        self._write(run)
        record = self._folder / f"{run.id}.json"
        environment = self._environment() | {ACTOR_VARIABLE: person, ORIGIN_VARIABLE: f"dashboard, {address}"}
        with open(self._folder / f"{run.id}.log", "xb", opener=_private) as output:
            subprocess.Popen(
                [sys.executable, "-m", "services.dashboard.command_runs", str(record)],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        return run

    def find(self, run_id: str) -> CommandRun | None:
        """The run of this id."""
        run = _read(self._folder / f"{run_id}.json") if _ID.fullmatch(run_id) else None
        return run and self._seen(run)

    def recent(self, count: int, company: str | None) -> list[CommandRun]:
        """The last runs, the newest first. `company`: only those of its people."""
        files = sorted(self._folder.glob("*.json"), reverse=True)
        found = (run for file in files if (run := _read(file)) is not None and company in (None, run.company))
        return [self._seen(each) for each in islice(found, count)]

    def output(self, run_id: str) -> str:
        """The end of what a run printed."""
        if not _ID.fullmatch(run_id):
            return ""
        with contextlib.suppress(OSError), (self._folder / f"{run_id}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_OUTPUT))
            return file.read(MAX_OUTPUT).decode(errors="replace")
        return ""

    def _seen(self, run: CommandRun) -> CommandRun:
        begins = time.time() - run.began_at < START_SECONDS
        lost = run.ended_at is None and not begins and not file_lock.is_held(self._folder / f"{run.id}.log")
        return replace(run, lost=lost)

    def _environment(self) -> dict[str, str]:
        # A process with the variables of supervisord counts as one that supervisord started.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BISNES_", "SUPERVISOR_"))}
        return kept | {"BISNES_ENV": str(self._settings.env_file), "NO_COLOR": "1", "COLUMNS": "100"}

    def _write(self, run: CommandRun) -> None:
        _store(self._folder / f"{run.id}.json", run)

    def _prune(self) -> None:
        for file in sorted(self._folder.glob("*.json"), reverse=True)[MAX_RUNS:]:
            for each in (file, file.with_suffix(".log")):
                each.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _store(file: Path, run: CommandRun) -> None:
    disk.replace(file, json.dumps(asdict(run)).encode())


def _read(file: Path) -> CommandRun | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(file.read_bytes())
        return CommandRun(**content | {"words": tuple(content["words"])})
    return None


def main() -> None:
    """Runs the command of a record, which is the only argument, and notes its end there.

    Until then, it locks the output, so that the dashboard knows that it lives.
    """
    file = Path(sys.argv[1])
    file_lock.take(file_lock.open_file(file.with_suffix(".log")))
    run = _read(file)
    if run is None:
        raise SystemExit(f"{file} is no record of a command")
    done = subprocess.run([sys.executable, "-m", "bisnesctl", *run.words], check=False)
    _store(file, replace(run, ended_at=time.time(), exit_code=done.returncode))


if __name__ == "__main__":
    main()
