"""Programs of a release: those that run, and its own commands."""

import collections
import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bisnesctl.errors import ExitCode, StartFailed
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.switch_records import PART_OF
from bisnesctl.releases.store import InstalledRelease
from bisnesctl.settings import Settings

#: Lines of the output of a command that an error shows.
_LINES = 12
#: Variables that make Python load modules of other folders than its own.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
_ERROR = re.compile(r"^error: (.+)")

Report = Callable[[str], None]


class CommandFailed(StartFailed):
    """A command of a release failed. See `bisnesctl release list`."""

    def __init__(self, message: str | None = None, status: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        #: Its exit status.
        self.status = status


def clean_environment() -> dict[str, str]:
    """The environment of this process without what would make Python load modules of elsewhere."""
    return {name: text for name, text in os.environ.items() if name not in FOREIGN}


def run(release: InstalledRelease, settings: Settings, words: Sequence[str], report: Report) -> None:
    """Runs `bisnesctl` of a release as a step of the switch of this process, and reports its lines.

    It ends with this process, even by SIGKILL. Raises `CommandFailed` with its last lines.
    """
    command = ["setpriv", "--pdeathsig", "KILL", "--", str(release.python), "-P", "-m", "bisnesctl", *words]
    own = {"BISNES_ENV": str(settings.env_file), PART_OF: str(os.getpid())}
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", cwd=settings.env_file.parent, env={**clean_environment(), **own}, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    try:
        for line in child.stdout or ():
            lines.append(line.rstrip())
            report(lines[-1])
        status = child.wait()
    except BaseException:  # an interruption is ours to handle, not that of the command
        child.kill()
        child.wait()
        raise
    if status:
        raise CommandFailed(_explain(release, words, lines, status), status)


def _explain(release: InstalledRelease, words: Sequence[str], lines: Sequence[str], status: int) -> str:
    said = next((found[1] for each in reversed(lines) if (found := _ERROR.match(each))), "")
    if not said and status in {int(each) for each in ExitCode}:
        said = ExitCode(status).meaning
    return f"`bisnesctl {words[0]}` of {release.name}: {said or (lines[-1] if lines else f'exit status {status}')}"


def folder_of(pid: int, folders: Iterable[Path]) -> Path | None:
    """The virtual environment among these from which a process runs; None if it is none of them."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((each for each in folders if any(word.startswith(os.fsencode(f"{each}/")) for word in words)), None)


def running(processes: Mapping[str, Process], folder: Path) -> list[str]:
    """The names of the instances that run from a virtual environment."""
    return [each.name for each in processes.values() if each.active and folder_of(each.pid, [folder]) is not None]


def users_of(folder: Path) -> list[str]:
    """The processes on this machine that run from a virtual environment or have a file of it in memory."""
    mark, counted = os.fsencode(f"{folder}/"), collections.Counter[str]()
    for pid, words in _all_processes():
        if pid != os.getpid() and (any(word.startswith(mark) for word in words) or _is_mapped(pid, mark)):
            counted[_title(words)] += 1
    return [name if count == 1 else f"{name} ({count})" for name, count in sorted(counted.items())]


def _all_processes() -> Iterator[tuple[int, list[bytes]]]:
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(each.name), (each / "cmdline").read_bytes().split(b"\0")


def _is_mapped(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return False


def _title(words: Sequence[bytes]) -> str:
    """A process in a word or two: its module, or its program."""
    plain = [os.fsdecode(each) for each in words if each]
    modules = [after for before, after in itertools.pairwise(plain) if before == "-m"]
    return modules[-1] if modules else Path(plain[0]).name if plain else "a process"
