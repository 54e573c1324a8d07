"""Folders of records on their way to the database: a file each, written by many processes and read by one at a time.

A file is complete or not there, so no process waits for another, and a record needs no database.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from bisnesctl.host import disk


def add(folder: Path, at: float, content: bytes, most: int) -> Path | None:
    """Stores a record and returns its file, or None if it cannot be written, or `most` records wait already.

    `at`: seconds since the epoch, by which the records are ordered.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sum(1 for _ in folder.iterdir()) < most:
            file = folder / f"{at:017.6f}-{secrets.token_hex(4)}.json"
            replace(file, content)
            return file
    return None


def replace(file: Path, content: bytes) -> None:
    """Stores another content of a record. The file belongs to the owner of the folder, even if root writes it.

    Raises `OSError`.
    """
    disk.replace(file, content)
    owner = file.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(file, owner.st_uid, owner.st_gid)


def files(folder: Path) -> Iterator[Path]:
    """The records, oldest first."""
    return iter(sorted(folder.glob("[!.]*.json")))
