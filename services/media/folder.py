"""Media in a folder that nobody else of this machine can read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from services.media.base import MediaMissing, MediaUnavailable, Stored, checked, taken_in


class FolderStore:
    """Keeps files below one folder, each under its key; what is being written lies beside them until it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, company_id: str, stream: BinaryIO, mime_type: str, limit: int) -> Stored:
        """See `MediaStore`."""
        try:
            _make(self._folder)
            with taken_in(company_id, stream, mime_type, limit, self._folder) as (path, stored):
                place = self._folder / stored.key
                _make(place.parent)
                path.replace(place)
                _settle(place.parent)
        except OSError as error:
            raise MediaUnavailable(f"the file cannot be written below {self._folder}: {error.strerror}") from error
        return stored

    def open(self, key: str) -> BinaryIO:
        """See `MediaStore`."""
        path = self._folder / checked(key)
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise MediaMissing(f"there is no media with the key {key!r}") from None
        except OSError as error:
            raise MediaUnavailable(f"{path} cannot be read: {error.strerror}") from error

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        """See `MediaStore`."""
        self.open(key).close()
        yield self._folder / key

    def delete(self, key: str) -> None:
        """See `MediaStore`."""
        try:
            (self._folder / checked(key)).unlink(missing_ok=True)
        except MediaMissing:
            return
        except OSError as error:
            raise MediaUnavailable(f"the file cannot be removed: {error.strerror}") from error


def _make(folder: Path) -> None:
    """Make a folder and those above it, closed to everybody else, so that they are there after a power cut."""
    if folder.is_dir():
        return
    _make(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    _settle(folder.parent)


def _settle(folder: Path) -> None:
    """Let a folder's list of names reach the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
