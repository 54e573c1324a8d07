"""Downloads of received files through the page, which decrypts them, into our store."""

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

#: The limit for one file. Meanwhile the page does nothing else for us.
DOWNLOAD_TIMEOUT_SECONDS = 60.0
#: The pause between two looks for due files.
POLL_SECONDS = 1.0

log = structlog.get_logger()


class MediaDownloads:
    """A page task: downloads one file at a time, and stores it on a thread of its own while the page continues."""

    def __init__(self, database: Database, bot_id: int, store: MediaStore, limit: int, folder: Path) -> None:
        """`limit`: the maximum size of a file in bytes. `folder`: for temporary files of this bot; it is emptied."""
        self._database = database
        self._bot_id = bot_id
        self._store = store
        self._limit = limit
        self._folder = folder
        self._next = 0.0  # the time of the next look, by the monotonic clock
        self._storing: threading.Thread | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.iterdir():
            leftover.unlink()

    def wait_seconds(self) -> float:
        """How long no file is looked for."""
        is_storing = self._storing is not None and self._storing.is_alive()
        return POLL_SECONDS if is_storing else self._next - time.monotonic()

    def turn(self, page: Page) -> bool:
        """Download the file that is due longest; returns whether there was one. Raises `PageLost`, `CallTimeout`."""
        if time.monotonic() < self._next or (self._storing is not None and self._storing.is_alive()):
            return False
        try:
            with self._database.connection() as connection:
                task = pending.claim(connection, "bot_id = %(bot)s", {"bot": self._bot_id})
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("download.postponed", bot=self._bot_id, reason=str(error).strip())
            task = None
        if task is None:
            self._next = time.monotonic() + POLL_SECONDS
            return False
        self._download(page, task)
        return True

    def paused(self) -> None:
        """A downloaded file is still stored."""

    def _download(self, page: Page, task: PendingMedia) -> None:
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as created:
                path = Path(created.name)
        except OSError as error:
            self._fail(task, str(error))
            return
        try:
            blob = page.download(
                "WPP.chat.downloadMedia", str(task.media["id"]), path=path, limit=self._limit,
                deadline=DOWNLOAD_TIMEOUT_SECONDS,
            )  # fmt: skip
        except (CallFailed, CallTimeout, PageLost, TooLarge, OSError) as error:
            path.unlink()
            self._fail(task, str(error) or type(error).__name__, for_good=isinstance(error, TooLarge))
            if isinstance(error, CallTimeout | PageLost):
                raise
            return
        arguments = (task, path, blob.mime_type)
        self._storing = threading.Thread(target=self._keep, args=arguments, name="store-file", daemon=True)
        self._storing.start()

    def _keep(self, task: PendingMedia, path: Path, browser_type: str) -> None:
        try:
            if pending.is_other(path, task.media.get("sha256")):
                self._fail(task, "the file's SHA-256 is not the one that was announced")
                return
            mime_type = pending.type_of(path, task.media.get("mimeType") or browser_type)
            with path.open("rb") as file:
                stored = self._store.put(task.company_id, file, mime_type, self._limit)
            with self._database.connection() as connection:
                pending.keep(connection, task.message_id, stored, mime_type)
            log.info("download.stored", message=task.message_id, bot=task.bot_id, bytes=stored.size)
        except MediaTooLarge as error:
            self._fail(task, str(error), for_good=True)
        except (MediaError, DatabaseUnavailable, DatabaseError, OSError) as error:
            self._fail(task, str(error).strip())
        finally:
            path.unlink(missing_ok=True)

    def _fail(self, task: PendingMedia, reason: str, for_good: bool = False) -> None:
        seconds = None if for_good or task.old else pending.BACKOFF.pause(task.attempt)
        unavailable = contextlib.suppress(DatabaseUnavailable, DatabaseError)  # it is due again when its claim expires
        with unavailable, self._database.connection() as connection:
            pending.put_off(connection, task.message_id, reason, seconds)
        about = {"message": task.message_id, "bot": task.bot_id, "attempt": task.attempt}
        log.warning("download.failed", **about, reason=reason, final=seconds is None, retry_in_seconds=seconds)
