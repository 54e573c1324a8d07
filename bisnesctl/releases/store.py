"""The releases of a home, and what became of each."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bisnesctl import paths
from bisnesctl.errors import BisnesError, Conflict, UsageError
from bisnesctl.host import disk, file_lock
from bisnesctl.release import RECORD

#: The file with what became of the releases, and the file that commands lock, in the folder of the releases.
STATE, LOCK = "state.json", "release.lock"
#: The list of the packages of a release with their versions and hashes, in its folder.
PACKAGES = "lock.txt"
#: The number of a checkout that runs in place.
CHECKOUT = 0
#: Seconds for which a command waits for another one that installs or switches.
LOCK_PATIENCE_SECONDS = 5.0
_DIGITS = 4


@dataclass(frozen=True)
class InstalledRelease:
    """A release that can run, or a checkout (number 0)."""

    number: int
    #: Its virtual environment.
    folder: Path
    version: str
    revision: str = ""
    #: The path or version that it was installed from.
    source: str = ""
    #: When it was installed, in seconds since the epoch, and by whom.
    at: float = 0.0
    by: str = ""
    #: Bytes on the disk.
    size: int = 0

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def name(self) -> str:
        """It in a sentence."""
        if self.number == CHECKOUT:
            return f"the checkout at {self.folder.parent}"
        return f"release {self.number} ({', '.join(filter(None, (self.version, self.revision)))})"


@dataclass(frozen=True)
class Trial:
    """The last attempt to run a release."""

    #: Whether it ran and was accepted.
    passed: bool
    #: When it ended, in seconds since the epoch.
    at: float
    #: Why it failed.
    reason: str = ""


@dataclass
class State:
    """The fate of each release."""

    #: The highest number that was ever used.
    highest: int = 0
    #: The releases that were current, in the order in which `rollback` returns through them; the last is current.
    history: list[int] = field(default_factory=list)
    #: The checkout that ran before the first release: its virtual environment, version and revision.
    checkout: dict[str, str] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)

    def has_failed(self, number: int) -> bool:
        """Whether the last attempt to run a release failed."""
        return number in self.trials and not self.trials[number].passed

    def accept(self, origin: int, number: int) -> None:
        """Records that a release became current after another one."""
        if number in self.history:  # a return
            self.history = self.history[: self.history.index(number) + 1]
        else:
            before = self.history if self.history[-1:] == [origin] else [*self.history, origin]
            self.history = [*before, number]
        self.trials[number] = Trial(True, time.time())

    def fail(self, number: int, reason: str) -> None:
        """Records that a release failed."""
        self.trials[number] = Trial(False, time.time(), reason)


class Store:
    """The releases of one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = paths.releases(home)

    def installed(self) -> list[InstalledRelease]:
        """The complete releases, the oldest first."""
        found = (_read(folder) for folder in self._folders())
        return [each for each in found if each is not None]

    def unfinished(self) -> list[Path]:
        """Folders whose installation is under way or was interrupted."""
        return [folder for folder in self._folders() if _read(folder) is None]

    def get(self, number: int) -> InstalledRelease:
        """The release of this number, or the checkout. Raises `UsageError`."""
        if number == CHECKOUT:
            return self._checkout()
        found = {each.number: each for each in self.installed()}
        if number not in found:
            raise UsageError(f"there is no release {number}: `bisnesctl release list` shows those that are installed")
        return found[number]

    def current(self) -> int:
        """The number of the current release; 0 if a checkout runs."""
        try:
            return int((self.folder / paths.CURRENT).readlink().name)
        except (OSError, ValueError):
            return CHECKOUT

    def point(self, number: int) -> None:
        """Makes a release current, atomically: readers find the former one or this one. Raises `CannotWrite`."""
        link = self.folder / paths.CURRENT
        with disk.writing(link):
            if number == CHECKOUT:
                link.unlink(missing_ok=True)
                return
            fresh = self.folder / f".{paths.CURRENT}.{os.getpid()}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(folder_name(number))
            fresh.replace(link)

    def previous(self) -> InstalledRelease | None:
        """The release to which `rollback` returns: the last good one before the current one. None if there is none."""
        state, current = self.state(), self.current()
        for number in reversed(state.history[: state.history.index(current)] if current in state.history else []):
            with contextlib.suppress(UsageError):
                if not state.has_failed(number):
                    return self.get(number)
        return None

    def state(self) -> State:
        """The fate of each release. Raises `BisnesError` if the file is damaged."""
        file = self.folder / STATE
        try:
            found: dict[str, Any] = json.loads(file.read_text())
            trials = {int(number): Trial(**each) for number, each in found["trials"].items()}
            history = [int(each) for each in found["history"]]
            return State(int(found["highest"]), history, dict(found["checkout"]), trials)
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BisnesError(f"{file} cannot be read ({error}): remove it, and the releases stay") from error

    def write(self, state: State) -> None:
        """Stores the fate of each release. Raises `CannotWrite`."""
        file = self.folder / STATE
        with disk.writing(file):
            disk.replace(file, json.dumps(asdict(state), indent=1).encode())

    def next_number(self) -> int:
        """A number that no release ever had."""
        numbers = [int(folder.name) for folder in self._folders()]
        return max([self.state().highest, *numbers]) + 1

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Excludes other commands that install, switch or remove releases. Raises `Conflict`, `CannotWrite`."""
        with disk.writing(self.folder):
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            handle = file_lock.open_file(self.folder / LOCK)
        try:
            deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
            while not file_lock.take(handle):
                if time.monotonic() > deadline:
                    other = file_lock.holder(self.folder / LOCK) or "its process is not known"
                    raise Conflict(f"another `bisnesctl release` is at work here: {other}; wait, or end it")
                time.sleep(0.1)
            file_lock.write_holder(handle, f"pid {os.getpid()}")
            yield
        finally:
            os.close(handle)

    def is_locked(self) -> bool:
        """Whether such a command is at work."""
        return file_lock.is_held(self.folder / LOCK)

    def _folders(self) -> list[Path]:
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((each for each in found if each.name.isdecimal()), key=lambda each: int(each.name))

    def _checkout(self) -> InstalledRelease:
        known = self.state().checkout
        folder = Path(known.get("folder", ""))
        if not known or not (folder / "bin" / "python").exists():
            raise UsageError(
                "no checkout ran here before the first release, or it is gone: `bisnesctl release list` shows what "
                "there is"
            )
        return InstalledRelease(CHECKOUT, folder, known.get("version", ""), known.get("revision", ""))


def folder_name(number: int) -> str:
    """The name of the folder of a release."""
    return f"{number:0{_DIGITS}}"


def _read(folder: Path) -> InstalledRelease | None:
    try:
        found = json.loads((folder / RECORD).read_text())
        return InstalledRelease(
            *(int(found["number"]), folder, str(found["version"]), str(found["revision"]), str(found["source"])),
            *(float(found["at"]), str(found["by"]), int(found["size"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
