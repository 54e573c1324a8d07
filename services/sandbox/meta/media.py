"""Files in a folder, with the documented types, sizes and lives of media (Cloud API reference, "Media")."""

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
from services.sandbox.request_fields import GraphError

#: Bytes that all files may have together; the oldest go first.
FOLDER_LIMIT = 1 << 30
#: Seconds that a URL, an uploaded file and a customer's file live.
URL_LIFE, UPLOAD_LIFE, INBOUND_LIFE = 300, 30 * 86400, 7 * 86400
#: Where the URLs lead, below the address of the simulator or of 360dialog's.
DOWNLOADS = "/whatsapp_business/attachments/"

#: How the ids of files begin, by which they are told from those of numbers and accounts: 18 digits in all.
ID_PREFIX = "990"

_CHUNK = 1 << 18
_MB = 1 << 20
_OFFICE = "application/vnd.openxmlformats-officedocument"
_DOCUMENTS = (
    "text/plain", "application/pdf", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
    f"{_OFFICE}.wordprocessingml.document", f"{_OFFICE}.spreadsheetml.sheet",
    f"{_OFFICE}.presentationml.presentation",
)  # fmt: skip
#: Types and bytes of each kind of message.
LIMITS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "image": (("image/jpeg", "image/png"), 5 * _MB),
    "video": (("video/mp4", "video/3gpp"), 16 * _MB),
    "audio": (("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/opus"), 16 * _MB),
    "sticker": (("image/webp",), 500 << 10),
    "document": (_DOCUMENTS, 100 * _MB),
}
#: Bytes of a sticker that does not move.
STATIC_STICKER = 100 << 10
#: Bytes of any file.
MOST = 100 * _MB

_SIGNATURES = {
    "image/jpeg": (b"\xff\xd8\xff",), "image/png": (b"\x89PNG\r\n\x1a\n",), "image/webp": (b"RIFF",),
    "application/pdf": (b"%PDF",), "audio/ogg": (b"OggS",),
}  # fmt: skip
_COLUMNS = "id, phone_number_id, mime_type, sha256, size, filename, animated, created, expires"


@dataclass(frozen=True, slots=True)
class File:
    """A file that is kept."""

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
    """The folder. Safe for threads."""

    def __init__(self, database: Database, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database, self._folder = database, folder
        self._key = secrets.token_bytes(16)  # of the URLs: none outlives the process
        self.url_life = float(URL_LIFE)

    def keep(self, number: str, stream: IO[bytes], mime_type: str, filename: str | None, life: float) -> File:
        """Store a file. Raises `GraphError` 131053 where it is too big, or is not of its type."""
        name, digest, size, head = f"{ID_PREFIX}{secrets.randbelow(10**15):015d}", hashlib.sha256(), 0, b""
        path = self._folder / name
        with path.open("wb") as target:
            while chunk := stream.read(_CHUNK):
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
        file = File(name, number, mime_type, digest.hexdigest(), size, filename, _moves(head), now, now + life)
        self._add(file)
        return file

    def find(self, media_id: str) -> File:
        """A file that has not expired. Raises `GraphError` 100, subcode 33."""
        found = self._database.rows(f"SELECT {_COLUMNS} FROM media WHERE id = ?", (media_id,))
        if not found or found[0]["expires"] <= time.time():
            raise GraphError(100, f"there is no media with the id {media_id}, or it has expired", 400, 33)
        return File(**found[0] | {"animated": bool(found[0]["animated"])})

    def check(self, media_id: str, kind: str) -> File:
        """A file that is to be sent as this kind of message. Raises `GraphError` 131009 or 131053."""
        try:
            file = self.find(media_id)
        except GraphError as error:
            raise GraphError(131009, error.details) from None
        types, most = LIMITS[kind]
        most = STATIC_STICKER if kind == "sticker" and not file.animated else most
        bare = file.mime_type.partition(";")[0].strip().lower()
        if kind != "document" and bare not in types:
            raise GraphError(131053, f"a file of type {bare} cannot be sent as {kind}; it may be {', '.join(types)}")
        if file.size > most:
            raise GraphError(131053, f"the {kind} has {file.size} bytes, it may have {most}")
        return file

    def path(self, file: File) -> Path:
        """Where it lies."""
        return self._folder / file.id

    def upload(self, number: str, upload: FileStorage | None, mime_type: str | None) -> dict[str, Any]:
        """Keep what the business uploads. Raises `GraphError`."""
        if upload is None:
            raise GraphError(100, "file is required, as a part of multipart/form-data")
        kind = mime_type or upload.mimetype
        check_type(kind)
        return {"id": self.keep(number, upload.stream, kind, upload.filename, UPLOAD_LIFE).id}

    def described(self, file: File, base: str) -> dict[str, Any]:
        """What the API says of a file. `base`: the address below which its URL lies."""
        until = int(time.time() + self.url_life)
        url = f"{base}{DOWNLOADS}?mid={file.id}&ext={until}&hash={self._sign(file.id, until)}"
        facts = {"url": url, "mime_type": file.mime_type, "sha256": file.sha256, "file_size": file.size}
        return facts | {"id": file.id, "messaging_product": "whatsapp"}

    def downloaded(self, media_id: str, until: str, signature: str) -> File:
        """The file of a URL. Raises `GraphError` where the URL is not ours, or its time is over."""
        if not until.isdigit() or not hmac.compare_digest(self._sign(media_id, int(until)), signature):
            raise GraphError(100, "the URL is not one that the API gave", 404)
        if int(until) <= time.time():
            raise GraphError(100, "the URL has expired: ask for the media again", 404)
        return self.find(media_id)

    def expire(self, media_id: str, seconds: float) -> File:
        """Let a file live so many seconds more."""
        file = self.find(media_id)
        with self._database.transaction() as connection:
            connection.execute("UPDATE media SET expires = ? WHERE id = ?", (time.time() + seconds, media_id))
        return file

    def delete(self, media_id: str) -> None:
        """Forget a file. Raises `GraphError` where there is none."""
        self._drop([self.find(media_id).id])

    def clear(self) -> None:
        """Forget all files."""
        self.url_life = float(URL_LIFE)
        self._drop([row["id"] for row in self._database.rows("SELECT id FROM media")])

    def _sign(self, media_id: str, until: int) -> str:
        return hmac.digest(self._key, f"{media_id}/{until}".encode(), "sha256").hex()

    def _add(self, file: File) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                f"INSERT INTO media ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (file.id, file.phone_number_id, file.mime_type, file.sha256, file.size, file.filename, file.animated,
                 file.created, file.expires),
            )  # fmt: skip
        self._make_room()

    def _make_room(self) -> None:
        older = "SELECT id, sum(size) OVER (ORDER BY created DESC, id) AS upto FROM media"
        gone = self._database.rows(
            f"SELECT id FROM ({older}) WHERE upto > ? UNION SELECT id FROM media WHERE expires <= ?",
            (FOLDER_LIMIT, time.time()),
        )
        self._drop([row["id"] for row in gone])

    def _drop(self, names: list[str]) -> None:
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM media WHERE id = ?", [(name,) for name in names])
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


def is_media_id(name: str) -> bool:
    """Whether an id is one of a file, of an expired one too."""
    return len(name) == 18 and name.startswith(ID_PREFIX)


def check_type(mime_type: str) -> None:
    """Refuse an upload of a type that nothing can be sent as. Raises `GraphError` 100."""
    known = {each for types, _ in LIMITS.values() for each in types}
    if mime_type.partition(";")[0].strip().lower() not in known:
        raise GraphError(100, f"file must be of one of these types: {', '.join(sorted(known))}")


def _check(mime_type: str, head: bytes, size: int) -> None:
    most = max((limit for types, limit in LIMITS.values() if mime_type in types), default=MOST)
    if not 0 < size <= most:
        raise GraphError(131053, f"a file of type {mime_type} has 1 to {most} bytes, this one has {size}")
    signatures = _SIGNATURES.get(mime_type)
    if signatures and not head.startswith(signatures):
        raise GraphError(131053, f"the file is not of type {mime_type}")


def _moves(head: bytes) -> bool:
    """Whether it is an animated WebP: the flag in its extended header."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)
