"""The files of messages, in a folder."""

import hashlib
import mimetypes
import secrets
from pathlib import Path
from typing import IO, Any

from services.sandbox.database import Database

_CHUNK_BYTES = 1 << 20


class Files:
    """The table of media, and the folder of their bytes. Thread-safe."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, stream: IO[bytes], mimetype: str, filename: str | None) -> dict[str, Any]:
        """Store a file and return its row: `id`, `mimetype`, `filename`, `size`, `hash`."""
        media_id, size, digest = secrets.token_hex(12), 0, hashlib.sha256()
        with self.path(media_id).open("wb") as file:
            while chunk := stream.read(_CHUNK_BYTES):
                size += file.write(chunk)
                digest.update(chunk)
        kind = mimetype or mimetypes.guess_type(filename or "")[0] or "application/octet-stream"
        row = {"id": media_id, "mimetype": kind, "filename": filename, "size": size, "hash": digest.hexdigest()}
        with self._database.transaction() as connection:
            connection.execute("INSERT INTO media VALUES (:id, :mimetype, :filename, :size, :hash)", row)
        return row

    def find(self, media_id: str) -> dict[str, Any] | None:
        """The row of a file."""
        rows = self._database.rows("SELECT * FROM media WHERE id = ?", (media_id,))
        return rows[0] if rows else None

    def path(self, media_id: str) -> Path:
        """The path of a file."""
        return self._folder / media_id
