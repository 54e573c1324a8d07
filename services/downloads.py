"""Files that came in are fetched from the provider and kept: it has them for 7 days, we for as long as we like.

What is to be fetched stands in `media_download`; a row is claimed by dating its next attempt, so that nothing is locked
during the download, and a process that dies with it costs no more than that time.
"""

import base64
import binascii
import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import structlog

from bisnesctl.settings import Settings
from bisnesctl.vault import VaultError
from services.connectors.meta.provider import DIALOG360
from services.connectors.meta.received import Lost, NotNow, Received, Remote
from services.media import kinds
from services.media.fetch import Fetched, Fetcher, FetchFailed, FetchRefused, FetchTooLarge
from services.media.store import MediaError, MediaStore
from services.message import Bot
from services.store import Connection, Database, DatabaseError, DatabaseUnavailable

#: Downloads at once in one process, and those of one bot: a number whose files come slowly leaves room for the others.
THREADS, OF_ONE_BOT = 4, 2
#: Seconds for one file, and those after which a download whose process has died begins anew.
PATIENCE, LEASE = 300.0, 900
#: Seconds before the second attempt, how many times longer each further wait is, and the longest.
BACKOFF, GROWTH, LONGEST = 2, 4, 3600
#: Days after which a file is given up: the provider has deleted it.
KEPT = 7
#: Attempts after which an address that leads to nothing counts; before, it may just have expired.
NOT_FOUND = 3
#: 20 failed requests for files within an hour block a number of 360dialog's for half an hour ("Media": rate limits), so
#: at most so many attempts that fail or are under way begin within so many seconds; each waits so long for its next.
CAUTION, CAUTIOUS_SECONDS, CAUTIOUS_BACKOFF = 3, 600, 300
#: Seconds to wait for a download to end before looking for due ones again.
LOOK = 1.0

_CLAIM = f"""
WITH blocked AS MATERIALIZED (
    SELECT d.bot_id FROM media_download d JOIN phone_configs p ON p.id = d.bot_id
    WHERE d.tried_at > now() - {CAUTIOUS_SECONDS} * interval '1 second' AND p.connection_type = '{DIALOG360}'
    GROUP BY d.bot_id HAVING count(*) >= {CAUTION}
)
UPDATE media_download m SET due = now() + {LEASE} * interval '1 second', tried_at = now(),
    attempts = LEAST(attempts + 1, 32000)
WHERE message_id = (
    SELECT message_id FROM media_download
    WHERE due <= now() AND bot_id <> ALL (%(busy)s::int[]) AND bot_id NOT IN (SELECT bot_id FROM blocked)
    ORDER BY due LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING message_id::text, bot_id, company_id, media, attempts, created_at < now() - {KEPT} * interval '1 day'"""

_STORED = """
WITH done AS (DELETE FROM media_download WHERE message_id = %(message)s)
UPDATE messages SET media_metadata = COALESCE(media_metadata, '{}') || %(facts)s::jsonb WHERE id = %(message)s"""

_FAILED = """
UPDATE media_download SET error = %s, due = COALESCE(now() + %s * interval '1 second', 'infinity')
WHERE message_id = %s"""

log = structlog.get_logger()


class _Task(NamedTuple):
    """A claimed download."""

    message_id: str
    bot_id: int
    company_id: str
    media: dict[str, Any]
    attempt: int  # from 1
    old: bool  # whether the provider's time to keep it is over


class Downloads:
    """Fetches what is due; several processes may do so at once."""

    def __init__(
        self, settings: Settings, database: Database, bot_of: Callable[[int], Bot | None], store: MediaStore
    ) -> None:
        """`bot_of`: a bot with its token decrypted; may raise `VaultError`."""
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
        while (room := self._room()) and (task := _claim(connection, room.busy)):
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

    def _begin(self, task: _Task) -> None:
        with self._ended:
            self._running[task.bot_id] += 1
        threading.Thread(target=self._run, args=(task,), name="download", daemon=True).start()

    def _run(self, task: _Task) -> None:
        try:
            self._do(task)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("the database is away, the file is fetched again later", reason=str(error).strip())
        finally:
            with self._ended:
                self._running[task.bot_id] -= 1
                self._running += Counter()  # drops bots with nothing under way
                self._ended.notify_all()

    def _do(self, task: _Task) -> None:
        try:
            bot = self._bot_of(task.bot_id)
            if bot is None:
                raise Lost("its bot was removed")
        except (Lost, VaultError) as error:
            self._fail(task, None, str(error), for_good=isinstance(error, Lost))
            return
        try:
            self._succeed(task, self._fetch(task, bot))
        except (Lost, FetchTooLarge) as error:
            self._fail(task, bot, str(error), for_good=True)
        except FetchRefused as error:
            self._fail(task, bot, str(error), error.status in (404, 410) and task.attempt >= NOT_FOUND)
        except (NotNow, FetchFailed, MediaError) as error:
            self._fail(task, bot, str(error))
        except Exception as error:
            log.exception("a download failed in a way that nobody thought of", message=task.message_id)
            self._fail(task, bot, f"unexpected: {type(error).__name__}")

    def _fetch(self, task: _Task, bot: Bot) -> dict[str, Any]:
        remote = self._received.find(bot, str(task.media["id"]))
        if remote.size is not None and remote.size > self._limit:
            raise FetchTooLarge(f"the file has {remote.size} bytes, at most {self._limit} are taken (MEDIA_MAX_MB)")
        with self._fetcher.fetch(remote.url, self._limit, partial(self._received.headers_for, bot)) as fetched:
            _compare(fetched, remote, task.media.get("sha256"))
            mime_type = _type_of(fetched, remote.mime_type or task.media.get("mimeType"))
            with fetched.path.open("rb") as file:
                stored = self._store.put(task.company_id, file, mime_type, self._limit)
        return {"key": stored.key, "mimeType": mime_type, "size": stored.size, "sha256": stored.sha256}

    def _succeed(self, task: _Task, facts: dict[str, Any]) -> None:
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_STORED, {"message": task.message_id, "facts": orjson.dumps(facts).decode()})
        log.info("a file was stored", message=task.message_id, bot=task.bot_id, bytes=facts["size"])

    def _fail(self, task: _Task, bot: Bot | None, reason: str, for_good: bool = False) -> None:
        """Note what went wrong and when to try again; what is not tried again stays, for an operator to see."""
        given_up = for_good or task.old
        least = CAUTIOUS_BACKOFF if bot is not None and bot.connection_type == DIALOG360 else 0
        seconds = None if given_up else max(backoff(task.attempt), least)
        with self._database.connection() as connection, connection.cursor() as cursor:
            cursor.execute(_FAILED, (reason.replace("\0", ""), seconds, task.message_id))
        told = "a file was given up" if given_up else "a file could not be fetched, it is tried again"
        log.warning(told, message=task.message_id, bot=task.bot_id, attempt=task.attempt, reason=reason, after=seconds)


class _Room(NamedTuple):
    """There is room for a download."""

    busy: list[int]  # bots that have enough under way


def backoff(attempt: int) -> int:
    """Seconds between a failed attempt, counted from 1, and the next."""
    return int(min(BACKOFF * GROWTH ** min(attempt - 1, 10), LONGEST))


def _claim(connection: Connection, busy: list[int]) -> _Task | None:
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"busy": busy})
        row = cursor.fetchone()
    return _Task(*row) if row else None


def _compare(fetched: Fetched, remote: Remote, announced: object) -> None:
    """Raise `NotNow` unless the file is the one that the provider has announced."""
    told = remote.sha256 or (announced if isinstance(announced, str) else None)
    if remote.size not in (None, fetched.size):
        raise NotNow(f"the file has {fetched.size} bytes instead of {remote.size}")
    if told and digest_of(told) not in (None, _digest(fetched.path)):
        raise NotNow("the file's SHA-256 is not the one that was announced")


def digest_of(written: str) -> bytes | None:
    """A SHA-256 in hexadecimal (media API) or base64 (webhooks); None for what is neither."""
    try:
        found = bytes.fromhex(written) if len(written) == 64 else base64.b64decode(written, validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == 32 else None


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _type_of(fetched: Fetched, told: str | None) -> str:
    """The type as it was told, parameters included, where the file is of that type."""
    with fetched.path.open("rb") as file:
        found = kinds.true_type(file.read(kinds.HEAD), told)
    return told if told and kinds.normalise(told) == found else found
