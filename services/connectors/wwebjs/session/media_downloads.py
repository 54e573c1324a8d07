"""Files that came in are fetched by the page, which deciphers them, and kept."""

import contextlib
import tempfile
import threading
import time
from pathlib import Path

import structlog

from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, Page, PageLost, TooLarge
from services.database.connection import Database, DatabaseError, DatabaseUnavailable
from services.media import pending
from services.media.pending import PendingMedia
from services.media.store import MediaError, MediaStore, MediaTooLarge

#: Seconds for one file, during which the page does nothing else for us, and between two looks for files.
DEADLINE, LOOK = 60.0, 1.0

log = structlog.get_logger()


class MediaDownloads:
    """A session's work: one file after another, each kept on a thread of its own while the page goes on."""

    def __init__(self, database: Database, bot_id: int, store: MediaStore, limit: int, folder: Path) -> None:
        """`limit`: bytes of a file, at most; `folder`: of this bot alone, for files on their way; it is emptied."""
        self._database, self._bot_id, self._store, self._limit, self._folder = database, bot_id, store, limit, folder
        self._next = 0.0  # seconds of the monotonic clock
        self._keeping: threading.Thread | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            left.unlink()

    def turn(self, page: Page) -> bool:
        """Fetch the file that is due longest; returns whether there was any. May raise `PageLost`, `CallTimeout`."""
        if time.monotonic() < self._next or (self._keeping is not None and self._keeping.is_alive()):
            return False
        try:
            with self._database.connection() as connection:
                task = pending.claim(connection, "bot_id = %(bot)s", {"bot": self._bot_id})
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("the database is away, files are fetched later", reason=str(error).strip())
            task = None
        if task is None:
            self._next = time.monotonic() + LOOK
            return False
        self._fetch(page, task)
        return True

    def paused(self) -> None:
        """Nothing: what was fetched is kept all the same."""

    def _fetch(self, page: Page, task: PendingMedia) -> None:
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as made:
                path = Path(made.name)
        except OSError as error:
            self._fail(task, str(error))
            return
        try:
            blob = page.download(
                "WPP.chat.downloadMedia", str(task.media["id"]), path=path, limit=self._limit, deadline=DEADLINE
            )
        except (CallFailed, CallTimeout, PageLost, TooLarge, OSError) as error:
            path.unlink()
            self._fail(task, str(error) or type(error).__name__, for_good=isinstance(error, TooLarge))
            if isinstance(error, CallTimeout | PageLost):
                raise
            return
        self._keeping = threading.Thread(target=self._keep, args=(task, path, blob.mime_type), name="keep", daemon=True)
        self._keeping.start()

    def _keep(self, task: PendingMedia, path: Path, told: str) -> None:
        try:
            if pending.is_other(path, task.media.get("sha256")):
                self._fail(task, "the file's SHA-256 is not the one that was announced")
                return
            mime_type = pending.type_of(path, task.media.get("mimeType") or told)
            with path.open("rb") as file:
                stored = self._store.put(task.company_id, file, mime_type, self._limit)
            with self._database.connection() as connection:
                pending.keep(connection, task.message_id, stored, mime_type)
            log.info("a file was stored", message=task.message_id, bot=task.bot_id, bytes=stored.size)
        except MediaTooLarge as error:
            self._fail(task, str(error), for_good=True)
        except (MediaError, DatabaseUnavailable, DatabaseError, OSError) as error:
            self._fail(task, str(error).strip())
        finally:
            path.unlink(missing_ok=True)

    def _fail(self, task: PendingMedia, reason: str, for_good: bool = False) -> None:
        seconds = None if for_good or task.old else pending.BACKOFF.pause(task.attempt)
        away = contextlib.suppress(DatabaseUnavailable, DatabaseError)  # it is due again when the claim's time is over
        with away, self._database.connection() as connection:
            pending.put_off(connection, task.message_id, reason, seconds)
        told = "a file was given up" if seconds is None else "a file could not be fetched, it is tried again"
        log.warning(told, message=task.message_id, bot=task.bot_id, attempt=task.attempt, reason=reason, after=seconds)
