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
        (self.path / _MARK).unlink(missing_ok=True)
        self.path.rename(self._folder / f"{self._name}.{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
        former = sorted(each for each in self._folder.glob(f"{self._name}.2*") if each.is_dir())
        for each in former[:-ARCHIVED]:
            shutil.rmtree(each, ignore_errors=True)

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)
