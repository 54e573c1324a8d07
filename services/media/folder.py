"""Media in a folder that no other user of this machine can read."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from services.media.base import INCOMING, MediaMissing, Stored, checked, on_disk, taken_in

#: Seconds after which an incomplete file is abandoned: its writer has died.
ABANDONED_AFTER_SECONDS = 86400


class FolderStore:
    """Keeps files below one folder, each under its key; incomplete files lie beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._swept = False

    def put(
        self, company_id: str, stream: BinaryIO, mime_type: str, limit: int,
        reserve: Callable[[Stored], None] = lambda _: None,
    ) -> Stored:  # fmt: skip
        """See `MediaStore`."""
        with on_disk():
            _make(self._folder)
            self._sweep()
        with taken_in(company_id, stream, mime_type, limit, self._folder) as (path, stored):
            reserve(stored)
            with on_disk():
                place = self._folder / stored.key
                _make(place.parent)
                path.replace(place)
                _sync(place.parent)
        return stored

    def open(self, key: str) -> BinaryIO:
        """See `MediaStore`."""
        path = self._folder / checked(key)
        with on_disk():
            try:
                return path.open("rb")
            except FileNotFoundError:
                raise MediaMissing(f"there is no media with the key {key!r}") from None

    @contextmanager
    def local_path(self, key: str) -> Iterator[Path]:
        """See `MediaStore`."""
        self.open(key).close()
        yield self._folder / key

    def exists(self, key: str) -> bool:
        """See `MediaStore`."""
        with on_disk():
            return (self._folder / checked(key)).exists()

    def delete(self, key: str) -> None:
        """See `MediaStore`."""
        with suppress(MediaMissing), on_disk():
            (self._folder / checked(key)).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Once in a process's life, remove the incomplete files of killed processes."""
        if self._swept:
            return
        self._swept = True
        for path in self._folder.glob(f"{INCOMING}*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - ABANDONED_AFTER_SECONDS:
                    path.unlink()


def _make(folder: Path) -> None:
    """Make a folder and its parents with mode 0700, so that they exist after a power cut."""
    if folder.is_dir():
        return
    _make(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Write a folder's list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
