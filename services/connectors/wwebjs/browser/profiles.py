"""The profile of a bot's browser: a folder that links the bot to its phone, hence a credential.

It has mode 0700, and one process at a time uses it.
"""

import fcntl
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from bisnesctl.naming import session_name

#: Maximum number of archived profiles of a bot.
MAX_ARCHIVED = 2
#: The file in a profile that marks it as linked; it contains the phone number.
_LINKED_FILE = "linked"
#: The file in a profile that contains the id of its bot.
_BOT_FILE = "bot"


class ProfileInUse(Exception):
    """Another process uses the profile."""


class Profile:
    """The profile of one bot, locked as long as this object lives."""

    def __init__(self, folder: Path, company: str, phone: int) -> None:
        """`folder`: the parent of all profiles. Raises `ProfileInUse`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = session_name(company, phone)
        self._folder = folder
        self._name = name
        self._lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ProfileInUse(f"another process uses the profile {folder / name}") from error

    @property
    def path(self) -> Path:
        """Its folder, which is created."""
        path = self._folder / self._name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def assign(self, bot_id: int) -> None:
        """Assign it to a bot. If it belonged to a removed bot of the same name, that profile is archived first."""
        if _bot_of(self.path) not in (None, bot_id):
            self.archive()
        (self.path / _BOT_FILE).write_text(str(bot_id))

    @property
    def linked(self) -> bool:
        """Whether a phone was linked to it, as far as we know."""
        return (self.path / _LINKED_FILE).exists()

    def mark_linked(self, number: str) -> None:
        """Record that a phone is linked to it."""
        if not self.linked:
            (self.path / _LINKED_FILE).write_text(number)

    def archive(self) -> None:
        """Start with an empty one. The last few are kept, so that operators can find out what happened."""
        bot_id = _bot_of(self.path)
        (self.path / _LINKED_FILE).unlink(missing_ok=True)
        self.path.rename(self._folder / f"{self._name}.{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
        for each in _archived(self._folder, self._name)[:-MAX_ARCHIVED]:
            shutil.rmtree(each, ignore_errors=True)
        if bot_id is not None:
            (self.path / _BOT_FILE).write_text(str(bot_id))

    def close(self) -> None:
        """Release it for another process."""
        os.close(self._lock)


def discard(folder: Path, company: str, phone: int, bot_id: int) -> None:
    """Delete the profile of a removed bot, and its archived ones.

    Raises `ProfileInUse` while its browser is still ending, and `OSError` if a file cannot be deleted.
    """
    name = session_name(company, phone)
    if _bot_of(folder / name) == bot_id:
        profile = Profile(folder, company, phone)
        try:
            shutil.rmtree(folder / name)
        finally:
            profile.close()
    for each in _archived(folder, name):  # a new bot of the same name may have archived it
        if _bot_of(each) == bot_id:
            shutil.rmtree(each)


def _archived(folder: Path, name: str) -> list[Path]:
    """The archived profiles, the oldest first."""
    return sorted(each for each in folder.glob(f"{name}.2*") if each.is_dir())


def _bot_of(path: Path) -> int | None:
    """The id of the bot that a profile belongs to; None if it is not known."""
    try:
        return int((path / _BOT_FILE).read_text())
    except (OSError, ValueError):
        return None
