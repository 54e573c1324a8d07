"""The folder in which a bot's browser keeps what links it to its phone: a credential, 0700, used by one process."""

import fcntl
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from bisnesctl.naming import session_name

#: Profiles of former links that are kept, the newest.
ARCHIVED = 2
#: Says in the profile that a phone was linked; what it holds is its number.
_MARK = "linked"
#: Says in the profile whose it is; what it holds is the bot's id.
_OWNER = "bot"


class ProfileInUse(Exception):
    """Another process has the profile."""


class Profile:
    """The profile of one bot, locked as long as this object lives."""

    def __init__(self, folder: Path, company: str, phone: int) -> None:
        """`folder`: where all profiles are. Raises `ProfileInUse`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = session_name(company, phone)
        self._folder, self._name = folder, name
        self._lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ProfileInUse(f"another process has the profile {folder / name}") from error

    @property
    def path(self) -> Path:
        """Its folder, which is made."""
        path = self._folder / self._name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def take(self, bot_id: int) -> None:
        """It is that bot's; what a former one with the same name left, which was removed, is put aside."""
        if _owner(self.path) not in (None, bot_id):
            self.archive()
        (self.path / _OWNER).write_text(str(bot_id))

    @property
    def linked(self) -> bool:
        """Whether a phone was linked to it, as far as we know."""
        return (self.path / _MARK).exists()

    def mark(self, number: str) -> None:
        """A phone is linked to it."""
        if not self.linked:
            (self.path / _MARK).write_text(number)

    def archive(self) -> None:
        """Begin with an empty one; the last few are kept for whoever wants to know what happened."""
        owner = _owner(self.path)
        (self.path / _MARK).unlink(missing_ok=True)
        self.path.rename(self._folder / f"{self._name}.{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
        for each in _archived(self._folder, self._name)[:-ARCHIVED]:
            shutil.rmtree(each, ignore_errors=True)
        if owner is not None:
            (self.path / _OWNER).write_text(str(owner))

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)


def discard(folder: Path, company: str, phone: int, bot_id: int) -> None:
    """Remove what links a bot that is no more, the former links as well.

    Raises `ProfileInUse` while its browser still ends, `OSError` where a file cannot be removed.
    """
    name = session_name(company, phone)
    if _owner(folder / name) == bot_id:
        profile = Profile(folder, company, phone)
        try:
            shutil.rmtree(folder / name)
        finally:
            profile.close()
    for each in _archived(folder, name):  # a new bot of that name may have put it aside
        if _owner(each) == bot_id:
            shutil.rmtree(each)


def _archived(folder: Path, name: str) -> list[Path]:
    """The profiles that were put aside, the oldest first."""
    return sorted(each for each in folder.glob(f"{name}.2*") if each.is_dir())


def _owner(path: Path) -> int | None:
    """The id of the bot whose profile it is; None where that is not known."""
    try:
        return int((path / _OWNER).read_text())
    except (OSError, ValueError):
        return None
