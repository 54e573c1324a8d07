"""Files that came in are fetched from Meta and 360dialog, which have them for 7 days, and kept as long as we like."""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import structlog

from bisnesctl.encryption import EncryptionError
from bisnesctl.settings import Settings
from services.connectors.meta.media_client import Lost, NotNow, Received, Remote
from services.connectors.meta.provider import DIALOG360
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.media import pending
from services.media.fetch import Fetched, Fetcher, FetchFailed, FetchRefused, FetchTooLarge
from services.media.pending import PendingMedia
from services.media.store import MediaError, MediaStore, Stored
from services.message import Bot

#: Downloads at once in one process, and those of one bot: a number whose files come slowly leaves room for the others.
THREADS, OF_ONE_BOT = 4, 2
#: Seconds for one file.
PATIENCE = 300.0
#: Attempts after which an address that leads to nothing counts; before, it may just have expired.
NOT_FOUND = 3
#: 20 failed requests for files within an hour block a number of 360dialog's for half an hour ("Media": rate limits), so
#: at most so many attempts that fail or are under way begin within so many seconds; each waits so long for its next.
CAUTION, CAUTIOUS_SECONDS, CAUTIOUS_BACKOFF = 3, 600, 300
#: Seconds to wait for a download to end before looking for due ones again.
LOOK = 1.0

_BLOCKED = f"""
WITH blocked AS MATERIALIZED (
    SELECT d.bot_id FROM media_download d JOIN phone_configs p ON p.id = d.bot_id
    WHERE d.tried_at > now() - {CAUTIOUS_SECONDS} * interval '1 second' AND p.connection_type = '{DIALOG360}'
    GROUP BY d.bot_id HAVING count(*) >= {CAUTION}
)"""
# What came through a browser is fetched by its session.
_OURS = """bot_id <> ALL (%(busy)s::int[]) AND bot_id NOT IN (SELECT bot_id FROM blocked)
    AND NOT EXISTS (SELECT FROM phone_configs WHERE id = bot_id AND process_name = 'wwebjs')"""

log = structlog.get_logger()


class Downloads:
    """Fetches what is due; several processes may do so at once."""

    def __init__(
        self, settings: Settings, database: Database, bot_of: Callable[[int], Bot | None], store: MediaStore
    ) -> None:
        """`bot_of`: a bot with its token decrypted; may raise `EncryptionError`."""
        self._database, self._bot_of, self._store = database, bot_of, store
        self._received = Received(settings)
        self._fetcher = Fetcher(settings.open_networks, PATIENCE)
        self._limit = settings.media_max_mb << 20
        self._running: Counter[int] = Counter()  # by bot
        self._ended = threading.Condition()

    def work(self, connection: Connection) -> bool:
        """Begin what is due and there is room for, on threads of its own; returns whether to look again at once.

        While something is under way it waits for an end, up to a second.
        """
        while (room := self._room()) and (task := claim(connection, room.busy)):
            self._begin(task)
        with self._ended:
            if not self._running.total():
                return False
            self._ended.wait(LOOK)
        return True

    def _room(self) -> "_Room | None":
        with self._ended:
            if self._running.total() >= THREADS:
                return None
            return _Room([bot for bot, running in self._running.items() if running >= OF_ONE_BOT])

    def _begin(self, task: PendingMedia) -> None:
        with self._ended:
            self._running[task.bot_id] += 1
        threading.Thread(target=self._run, args=(task,), name="download", daemon=True).start()

    def _run(self, task: PendingMedia) -> None:
        try:
            self._do(task)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("the database is away, the file is fetched again later", reason=str(error).strip())
        finally:
            with self._ended:
                self._running[task.bot_id] -= 1
                self._running += Counter()  # drops bots with nothing under way
                self._ended.notify_all()

    def _do(self, task: PendingMedia) -> None:
        try:
            bot = self._bot_of(task.bot_id)
            if bot is None:
                raise Lost("its bot was removed")
        except (Lost, EncryptionError) as error:
            self._fail(task, None, str(error), for_good=isinstance(error, Lost))
            return
        try:
            self._succeed(task, *self._fetch(task, bot))
        except (Lost, FetchTooLarge) as error:
            self._fail(task, bot, str(error), for_good=True)
        except FetchRefused as error:
            self._fail(task, bot, str(error), error.status in (404, 410) and task.attempt >= NOT_FOUND)
        except (NotNow, FetchFailed, MediaError) as error:
            self._fail(task, bot, str(error))
        except Exception as error:
            log.exception("a download failed in a way that nobody thought of", message=task.message_id)
            self._fail(task, bot, f"unexpected: {type(error).__name__}")

    def _fetch(self, task: PendingMedia, bot: Bot) -> tuple[Stored, str]:
        remote = self._received.find(bot, str(task.media["id"]))
        if remote.size is not None and remote.size > self._limit:
            raise FetchTooLarge(f"the file has {remote.size} bytes, at most {self._limit} are taken (MEDIA_MAX_MB)")
        with self._fetcher.fetch(remote.url, self._limit, partial(self._received.headers_for, bot)) as fetched:
            _compare(fetched, remote, task.media.get("sha256"))
            mime_type = pending.type_of(fetched.path, remote.mime_type or task.media.get("mimeType"))
            with fetched.path.open("rb") as file:
                return self._store.put(task.company_id, file, mime_type, self._limit), mime_type

    def _succeed(self, task: PendingMedia, stored: Stored, mime_type: str) -> None:
        with self._database.connection() as connection:
            pending.keep(connection, task.message_id, stored, mime_type)
        log.info("a file was stored", message=task.message_id, bot=task.bot_id, bytes=stored.size)

    def _fail(self, task: PendingMedia, bot: Bot | None, reason: str, for_good: bool = False) -> None:
        """Note what went wrong and when to try again; what is not tried again stays, for an operator to see."""
        given_up = for_good or task.old
        least = CAUTIOUS_BACKOFF if bot is not None and bot.connection_type == DIALOG360 else 0
        seconds = None if given_up else max(pending.BACKOFF.pause(task.attempt), least)
        with self._database.connection() as connection:
            pending.put_off(connection, task.message_id, reason, seconds)
        told = "a file was given up" if given_up else "a file could not be fetched, it is tried again"
        log.warning(told, message=task.message_id, bot=task.bot_id, attempt=task.attempt, reason=reason, after=seconds)


class _Room(NamedTuple):
    """There is room for a download."""

    busy: list[int]  # bots that have enough under way


def claim(connection: Connection, busy: list[int]) -> PendingMedia | None:
    """The file that is due longest, of numbers that are not busy and may be asked."""
    return pending.claim(connection, _OURS, {"busy": busy}, _BLOCKED)


def _compare(fetched: Fetched, remote: Remote, announced: object) -> None:
    """Raise `NotNow` unless the file is the one that the provider has announced."""
    if remote.size not in (None, fetched.size):
        raise NotNow(f"the file has {fetched.size} bytes instead of {remote.size}")
    if pending.is_other(fetched.path, remote.sha256 or announced):
        raise NotNow("the file's SHA-256 is not the one that was announced")
