"""Downloads of received files from Meta and 360dialog, which delete them after 7 days, into our own store."""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import structlog

from bisnesctl.encryption import EncryptionError
from bisnesctl.settings import Settings
from services.connectors.meta.connector import DIALOG360
from services.connectors.meta.media_client import FileLost, FileUnavailable, MediaClient, RemoteFile
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.media import pending
from services.media.fetch import Fetched, Fetcher, FetchFailed, FetchRefused, FetchTooLarge
from services.media.pending import PendingMedia
from services.media.store import MediaError, MediaStore, Stored
from services.message import Bot

#: Concurrent downloads in one process.
MAX_DOWNLOADS = 4
#: Concurrent downloads of one bot. A bot whose downloads are slow leaves room for the others.
MAX_DOWNLOADS_PER_BOT = 2
#: Limit for one file.
DOWNLOAD_TIMEOUT_SECONDS = 300.0
#: From this attempt on, "not found" is final; before, the address may just have expired.
NOT_FOUND_ATTEMPTS = 3
#: Attempts of one 360dialog bot that may fail or be running within the period below. 20 failed requests for files in an
#: hour block a number of 360dialog's for half an hour ("Media": rate limits).
DIALOG360_MAX_ATTEMPTS = 3
#: The period in which attempts of one 360dialog bot are counted.
DIALOG360_PERIOD_SECONDS = 600
#: The shortest pause between two attempts for the same file of a 360dialog bot.
DIALOG360_MIN_PAUSE_SECONDS = 300
#: How long to wait for a running download before looking for due ones again.
POLL_SECONDS = 1.0

_BLOCKED = f"""
WITH blocked AS MATERIALIZED (
    SELECT d.bot_id FROM media_download d JOIN phone_configs p ON p.id = d.bot_id
    WHERE d.tried_at > now() - {DIALOG360_PERIOD_SECONDS} * interval '1 second' AND p.connection_type = '{DIALOG360}'
    GROUP BY d.bot_id HAVING count(*) >= {DIALOG360_MAX_ATTEMPTS}
)"""
# Files that came through a browser are downloaded by its session.
_OURS = """bot_id <> ALL (%(busy)s::int[]) AND bot_id NOT IN (SELECT bot_id FROM blocked)
    AND NOT EXISTS (SELECT FROM phone_configs WHERE id = bot_id AND process_name = 'wwebjs')"""

log = structlog.get_logger()


class Downloads:
    """Downloads due files. Several processes may do so at the same time."""

    idle_seconds: ClassVar[float] = 5.0

    def __init__(
        self, settings: Settings, database: Database, bot_of: Callable[[int], Bot | None], store: MediaStore
    ) -> None:
        """`bot_of`: a bot with its token decrypted; may raise `EncryptionError`."""
        self._database = database
        self._bot_of = bot_of
        self._store = store
        self._client = MediaClient(settings)
        self._fetcher = Fetcher(settings.open_networks, DOWNLOAD_TIMEOUT_SECONDS)
        self._limit = settings.media_max_mb << 20
        self._running: Counter[int] = Counter()  # by bot
        self._ended = threading.Condition()

    def work(self, connection: Connection) -> bool:
        """Start due downloads, as many as the limits allow; returns whether to look again at once.

        While downloads are running, it waits up to a second for one to end.
        """
        while (busy := self._busy_bots()) is not None and (task := claim(connection, busy)):
            self._begin(task)
        with self._ended:
            if not self._running.total():
                return False
            self._ended.wait(POLL_SECONDS)
        return True

    def _busy_bots(self) -> list[int] | None:
        """The bots that may start no further download; None if no bot may."""
        with self._ended:
            if self._running.total() >= MAX_DOWNLOADS:
                return None
            return [bot for bot, running in self._running.items() if running >= MAX_DOWNLOADS_PER_BOT]

    def _begin(self, task: PendingMedia) -> None:
        with self._ended:
            self._running[task.bot_id] += 1
        threading.Thread(target=self._run, args=(task,), name="download", daemon=True).start()

    def _run(self, task: PendingMedia) -> None:
        try:
            self._do(task)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("download.postponed", message=task.message_id, reason=str(error).strip())
        finally:
            with self._ended:
                self._running[task.bot_id] -= 1
                self._running += Counter()  # drops the bots without a download
                self._ended.notify_all()

    def _do(self, task: PendingMedia) -> None:
        try:
            bot = self._bot_of(task.bot_id)
            if bot is None:
                raise FileLost("its bot was removed")
        except (FileLost, EncryptionError) as error:
            self._fail(task, None, str(error), for_good=isinstance(error, FileLost))
            return
        try:
            self._succeed(task, *self._fetch(task, bot))
        except (FileLost, FetchTooLarge) as error:
            self._fail(task, bot, str(error), for_good=True)
        except FetchRefused as error:
            self._fail(task, bot, str(error), error.status in (404, 410) and task.attempt >= NOT_FOUND_ATTEMPTS)
        except (FileUnavailable, FetchFailed, MediaError) as error:
            self._fail(task, bot, str(error))
        except Exception as error:
            log.exception("download.unexpected_error", message=task.message_id)
            self._fail(task, bot, f"unexpected: {type(error).__name__}")

    def _fetch(self, task: PendingMedia, bot: Bot) -> tuple[Stored, str]:
        remote = self._client.find(bot, str(task.media["id"]))
        if remote.size is not None and remote.size > self._limit:
            raise FetchTooLarge(f"the file has {remote.size} bytes, at most {self._limit} are accepted (MEDIA_MAX_MB)")
        with self._fetcher.fetch(remote.url, self._limit, partial(self._client.headers_for, bot)) as fetched:
            _compare(fetched, remote, task.media.get("sha256"))
            mime_type = pending.type_of(fetched.path, remote.mime_type or task.media.get("mimeType"))
            with fetched.path.open("rb") as file:
                return self._store.put(task.company_id, file, mime_type, self._limit), mime_type

    def _succeed(self, task: PendingMedia, stored: Stored, mime_type: str) -> None:
        with self._database.connection() as connection:
            pending.keep(connection, task.message_id, stored, mime_type)
        log.info("download.stored", message=task.message_id, bot=task.bot_id, bytes=stored.size)

    def _fail(self, task: PendingMedia, bot: Bot | None, reason: str, for_good: bool = False) -> None:
        """Record the failure and the next attempt. If there is none, the row stays for operators to see."""
        final = for_good or task.old
        least = DIALOG360_MIN_PAUSE_SECONDS if bot is not None and bot.connection_type == DIALOG360 else 0
        seconds = None if final else max(pending.BACKOFF.pause(task.attempt), least)
        with self._database.connection() as connection:
            pending.put_off(connection, task.message_id, reason, seconds)
        about = {"message": task.message_id, "bot": task.bot_id, "attempt": task.attempt}
        log.warning("download.failed", **about, reason=reason, final=final, retry_in_seconds=seconds)


def claim(connection: Connection, busy: list[int]) -> PendingMedia | None:
    """Claim the file that is due longest, of bots that are neither busy nor at the limit of 360dialog."""
    return pending.claim(connection, _OURS, {"busy": busy}, _BLOCKED)


def _compare(fetched: Fetched, remote: RemoteFile, announced: object) -> None:
    """Raise `FileUnavailable` unless the file is the one that the provider announced."""
    if remote.size not in (None, fetched.size):
        raise FileUnavailable(f"the file has {fetched.size} bytes instead of {remote.size}")
    if pending.is_other(fetched.path, remote.sha256 or announced):
        raise FileUnavailable("the file's SHA-256 is not the one that was announced")
