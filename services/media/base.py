"""The interface of media stores, with what they share: their keys, and the reception of files."""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

from services.media.kinds import extension

#: The prefix of incomplete files.
INCOMING = "incoming-"
_CHUNK = 1 << 18
#: Characters of a company's folder; longer names are cut and get a digest.
_MAX_FOLDER = 120
_KEY = re.compile(r"[A-Za-z0-9_=~-]{1,200}/[0-9]{4}-[0-9]{2}/[0-9a-f]{64}\.[a-z0-9]{1,5}", re.ASCII)


class MediaError(Exception):
    """A file could not be kept or found."""


class MediaTooLarge(MediaError):
    """A file has more bytes than are allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the file has more than {limit} bytes")
        self.limit = limit


class MediaMissing(MediaError):
    """There is no such file."""


class MediaUnavailable(MediaError):
    """The store cannot be reached or refuses to work; worth another attempt."""


class MediaQuotaExceeded(MediaError):
    """The company's files take all that it may store."""

    def __init__(self, company_id: str, limit: int) -> None:
        super().__init__(f"the files of company {company_id} may take {limit} MB, and the file does not fit any more")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is kept."""

    key: str  # by which the store finds it
    size: int  # bytes
    sha256: str  # hexadecimal


class MediaStore(Protocol):
    """Keeps files of messages. Safe for threads and for several processes."""

    def put(
        self, company_id: str, stream: BinaryIO, mime_type: str, limit: int,
        reserve: Callable[[Stored], None] = lambda _: None,
    ) -> Stored:  # fmt: skip
        """Keep the stream's content, `limit` bytes at most; whole or not at all.

        `reserve` is called once the content is known and before it is kept; what it raises prevents that. The same file
        of the same company has the same key within a month. Raises `MediaTooLarge` and `MediaUnavailable`, and what
        reading the stream raises.
        """

    def open(self, key: str) -> BinaryIO:
        """The file, to be read; one may seek in it. Raises `MediaMissing`, `MediaUnavailable`."""

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """The file on this machine's disk, for as long as it is needed. Raises like `open`."""

    def exists(self, key: str) -> bool:
        """Whether there is such a file. Raises `MediaUnavailable`."""

    def delete(self, key: str) -> None:
        """Forget the file, if it is there. Raises `MediaUnavailable`."""


def folder_of(company_id: str) -> str:
    """The company's name as a folder name: letters, digits, `_` and `-` stay, other bytes become `=2E`."""
    plain = re.sub(r"[^A-Za-z0-9_-]", lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), company_id)
    if len(plain) > _MAX_FOLDER:
        return f"{plain[:_MAX_FOLDER]}~{hashlib.sha256(company_id.encode()).hexdigest()}"
    return plain or "="


def checked(key: str) -> str:
    """The key itself. Raises `MediaMissing` for anything that no store ever returned, such as `../x`."""
    if not _KEY.fullmatch(key):
        raise MediaMissing(f"there is no media with the key {key!r}")
    return key


@contextmanager
def on_disk() -> Iterator[None]:
    """Raise `MediaUnavailable` if the disk refuses, for example because it is full."""
    try:
        yield
    except OSError as error:
        raise MediaUnavailable(f"{error.filename or 'the disk of media'}: {error.strerror}") from error


@contextmanager
def taken_in(
    company_id: str, stream: BinaryIO, mime_type: str, limit: int, folder: Path | None = None
) -> Iterator[tuple[Path, Stored]]:
    """The stream as a file of its own below `folder`, complete and on disk, and how it is to be kept.

    The file is removed afterwards unless it was moved. Raises `MediaTooLarge` and `MediaUnavailable`.
    """
    with on_disk():
        handle, name = tempfile.mkstemp(prefix=INCOMING, dir=folder)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as target:
            size, sha256 = _copy(stream, target, limit)
        month = datetime.now(UTC).strftime("%Y-%m")
        yield path, Stored(f"{folder_of(company_id)}/{month}/{sha256}.{extension(mime_type)}", size, sha256)
    finally:
        path.unlink(missing_ok=True)


def _copy(stream: BinaryIO, target: FileIO, limit: int) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise MediaTooLarge(limit)
        digest.update(chunk)
        _write(target, chunk)
    with on_disk():
        os.fsync(target.fileno())
    return size, digest.hexdigest()


def _write(target: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    with on_disk():
        while rest:
            rest = rest[target.write(rest) :]
