"""Media files, with the documented types, sizes and lifetimes (Cloud API reference, "Media")."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from werkzeug.datastructures import FileStorage

from services.sandbox.database import Database
from services.sandbox.meta.request_fields import GraphError

#: Limit of all files together: the oldest ones are deleted.
MAX_FOLDER_BYTES = 1 << 30
#: How long a download URL is valid.
URL_LIFE_SECONDS = 300
#: How long a file that the business uploaded exists.
UPLOAD_LIFE_SECONDS = 30 * 86400
#: How long a file that a customer sent exists.
INBOUND_LIFE_SECONDS = 7 * 86400
#: Path of the download URLs.
DOWNLOAD_PATH = "/whatsapp_business/attachments/"
#: Prefix of the ids of files. It distinguishes them from numbers and accounts.
ID_PREFIX = "990"
#: Digits of a file's id.
ID_DIGITS = 18

_CHUNK_BYTES = 1 << 18
_MB = 1 << 20
_OFFICE = "application/vnd.openxmlformats-officedocument"
_DOCUMENTS = (
    "text/plain", "application/pdf", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
    f"{_OFFICE}.wordprocessingml.document", f"{_OFFICE}.spreadsheetml.sheet",
    f"{_OFFICE}.presentationml.presentation",
)  # fmt: skip
#: The types that each kind of message can have, and its limit in bytes.
KIND_LIMITS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "image": (("image/jpeg", "image/png"), 5 * _MB),
    "video": (("video/mp4", "video/3gpp"), 16 * _MB),
    "audio": (("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/opus"), 16 * _MB),
    "sticker": (("image/webp",), 500 << 10),
    "document": (_DOCUMENTS, 100 * _MB),
}
MAX_STATIC_STICKER_BYTES = 100 << 10
MAX_FILE_BYTES = 100 * _MB

_SIGNATURES = {
    "image/jpeg": (b"\xff\xd8\xff",), "image/png": (b"\x89PNG\r\n\x1a\n",), "image/webp": (b"RIFF",),
    "application/pdf": (b"%PDF",), "audio/ogg": (b"OggS",),
}  # fmt: skip
_COLUMNS = "id, phone_number_id, mime_type, sha256, size, filename, animated, created, expires"


@dataclass(frozen=True, slots=True)
class File:
    """A row of the table."""

    id: str
    phone_number_id: str
    mime_type: str
    sha256: str  # hexadecimal
    size: int
    filename: str | None
    animated: bool
    created: float  # seconds since the epoch
    expires: float


class Media:
    """The folder of files, and their table. Thread-safe."""

    def __init__(self, database: Database, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = database
        self._folder = folder
        self._key = secrets.token_bytes(16)  # signs the URLs: none outlives the process
        self.url_life_seconds = float(URL_LIFE_SECONDS)

    def keep(self, number: str, stream: IO[bytes], mime_type: str, filename: str | None, life: float) -> File:
        """Store a file. Raises `GraphError` 131053 if it is too big, or is not of its type."""
        name = f"{ID_PREFIX}{secrets.randbelow(10**15):015d}"
        digest, size, head = hashlib.sha256(), 0, b""
        path = self._folder / name
        with path.open("wb") as target:
            while chunk := stream.read(_CHUNK_BYTES):
                head, size = head or chunk[:64], size + len(chunk)
                digest.update(chunk)
                target.write(chunk)
        bare = mime_type.partition(";")[0].strip().lower()
        try:
            _check(bare, head, size)
        except GraphError:
            path.unlink()
            raise
        now = time.time()
        file = File(name, number, mime_type, digest.hexdigest(), size, filename, _is_animated(head), now, now + life)
        self._add(file)
        return file

    def find(self, media_id: str) -> File:
        """A file that has not expired. Raises `GraphError` 100, subcode 33."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM media WHERE id = ?", (media_id,))
        if not rows or rows[0]["expires"] <= time.time():
            raise GraphError(100, f"there is no media with the id {media_id}, or it has expired", 400, 33)
        return File(**rows[0] | {"animated": bool(rows[0]["animated"])})

    def check(self, media_id: str, kind: str) -> File:
        """A file to send as this kind of message. Raises `GraphError` 131009 or 131053."""
        try:
            file = self.find(media_id)
        except GraphError as error:
            raise GraphError(131009, error.details) from None
        types, max_bytes = KIND_LIMITS[kind]
        if kind == "sticker" and not file.animated:
            max_bytes = MAX_STATIC_STICKER_BYTES
        bare = file.mime_type.partition(";")[0].strip().lower()
        if kind != "document" and bare not in types:
            raise GraphError(131053, f"a file of type {bare} cannot be sent as {kind}; it may be {', '.join(types)}")
        if file.size > max_bytes:
            raise GraphError(131053, f"the {kind} has {file.size} bytes, it may have {max_bytes}")
        return file

    def path(self, file: File) -> Path:
        """The path of a file."""
        return self._folder / file.id

    def upload(self, number: str, upload: FileStorage | None, mime_type: str | None) -> dict[str, Any]:
        """Store a file that the business uploads. Raises `GraphError`."""
        if upload is None:
            raise GraphError(100, "file is required, as a part of multipart/form-data")
        kind = mime_type or upload.mimetype
        check_type(kind)
        return {"id": self.keep(number, upload.stream, kind, upload.filename, UPLOAD_LIFE_SECONDS).id}

    def described(self, file: File, base: str) -> dict[str, Any]:
        """The API's description of a file. `base`: the beginning of its download URL."""
        until = int(time.time() + self.url_life_seconds)
        url = f"{base}{DOWNLOAD_PATH}?mid={file.id}&ext={until}&hash={self._sign(file.id, until)}"
        facts = {"url": url, "mime_type": file.mime_type, "sha256": file.sha256, "file_size": file.size}
        return facts | {"id": file.id, "messaging_product": "whatsapp"}

    def downloaded(self, media_id: str, until: str, signature: str) -> File:
        """The file of a download URL. Raises `GraphError` if the URL is not ours or has expired."""
        if not until.isdigit() or not hmac.compare_digest(self._sign(media_id, int(until)), signature):
            raise GraphError(100, "the API did not issue this URL", 404)
        if int(until) <= time.time():
            raise GraphError(100, "the URL has expired: ask for the media again", 404)
        return self.find(media_id)

    def expire(self, media_id: str, seconds: float) -> File:
        """Let a file expire in N seconds."""
        file = self.find(media_id)
        with self._database.transaction() as connection:
            connection.execute("UPDATE media SET expires = ? WHERE id = ?", (time.time() + seconds, media_id))
        return file

    def delete(self, media_id: str) -> None:
        """Delete a file. Raises `GraphError` if it does not exist."""
        self._delete([self.find(media_id).id])

    def clear(self) -> None:
        """Delete all files."""
        self.url_life_seconds = float(URL_LIFE_SECONDS)
        self._delete([row["id"] for row in self._database.rows("SELECT id FROM media")])

    def _sign(self, media_id: str, until: int) -> str:
        return hmac.digest(self._key, f"{media_id}/{until}".encode(), "sha256").hex()

    def _add(self, file: File) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                f"INSERT INTO media ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (file.id, file.phone_number_id, file.mime_type, file.sha256, file.size, file.filename, file.animated,
                 file.created, file.expires),
            )  # fmt: skip
        self._delete_oldest()

    def _delete_oldest(self) -> None:
        older = "SELECT id, sum(size) OVER (ORDER BY created DESC, id) AS upto FROM media"
        rows = self._database.rows(
            f"SELECT id FROM ({older}) WHERE upto > ? UNION SELECT id FROM media WHERE expires <= ?",
            (MAX_FOLDER_BYTES, time.time()),
        )
        self._delete([row["id"] for row in rows])

    def _delete(self, names: list[str]) -> None:
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM media WHERE id = ?", [(name,) for name in names])
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


def is_media_id(name: str) -> bool:
    """Whether an id is that of a file, even of an expired one."""
    return len(name) == ID_DIGITS and name.startswith(ID_PREFIX)


def check_type(mime_type: str) -> None:
    """Refuse an upload of a type that no kind of message has. Raises `GraphError` 100."""
    known = {known_type for types, _ in KIND_LIMITS.values() for known_type in types}
    if mime_type.partition(";")[0].strip().lower() not in known:
        raise GraphError(100, f"file must be of one of these types: {', '.join(sorted(known))}")


def _check(mime_type: str, head: bytes, size: int) -> None:
    max_bytes = max((limit for types, limit in KIND_LIMITS.values() if mime_type in types), default=MAX_FILE_BYTES)
    if not 0 < size <= max_bytes:
        raise GraphError(131053, f"a file of type {mime_type} has 1 to {max_bytes} bytes, this one has {size}")
    signatures = _SIGNATURES.get(mime_type)
    if signatures and not head.startswith(signatures):
        raise GraphError(131053, f"the file is not of type {mime_type}")


def _is_animated(head: bytes) -> bool:
    """Whether a file is an animated WebP: a flag in its extended header."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)
