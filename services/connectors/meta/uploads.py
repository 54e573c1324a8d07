"""The files of outgoing messages: named by their link, or by the id of a copy uploaded to the provider.

Meta fetches links itself. Where it cannot, we fetch the file and upload it; files of ours are uploaded at once. What is
remembered here saves uploads and says what was tried; all of it may be lost at any time.
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from services.connectors.base import Preparation, Refusal
from services.connectors.meta.provider import Provider
from services.connectors.meta.translation import responses
from services.connectors.meta.translation.errors import MetaError
from services.connectors.meta.ttl_cache import TtlCache
from services.connectors.meta.upload_request import LONGEST, NotConnected, post_file
from services.connectors.outgoing_files import Files, NoFile
from services.message import Bot, Outgoing, Rejected, Unavailable

#: Seconds for which an uploaded copy is used: Meta keeps it for 30 days.
KEPT = 25 * 86400
#: Seconds for which a link stands for the same file, and is not given to Meta again: as long as Meta caches it itself.
LINK_KEPT = 600
#: Seconds that a message waits for another one's upload of the same file: to fetch it first, and to upload it.
UPLOAD_SECONDS = 180.0 + LONGEST
#: Copies, links and sends that are remembered; there are never more sends in flight.
REMEMBERED = 10_000

#: The code with which Meta refuses a file.
_FILE_REFUSED = 131053
#: The codes with which it may refuse the id of a copy that it no longer has; its words tell.
_PARAMETER_REFUSED = (100, 131009)

Source = tuple[int, str, str]  # the bot, the kind (of a link alone: what may be sent depends on it), the link or key
Attempt = tuple[int, int]  # a message and how often it was tried before


@dataclass(frozen=True, slots=True)
class _Copy:
    """The uploaded copy by which an attempt names its file."""

    id: str
    fresh: bool  # uploaded for this attempt: if it is refused, so would another copy be


class Uploads:
    """Says how a message's file is to be named, and uploads it first where it must be. Safe for threads."""

    def __init__(self, provider: Provider, files: Files, patience_ms: int) -> None:
        """`patience_ms`: milliseconds without a sign of life after which an upload is given up."""
        self._provider, self._files, self._patience_ms = provider, files, patience_ms
        self._copies: TtlCache[Source, str] = TtlCache(REMEMBERED)
        self._refused_links: TtlCache[Source, bool] = TtlCache(REMEMBERED)
        self._attempts: TtlCache[Attempt, _Copy] = TtlCache(REMEMBERED)
        self._under_way: dict[Source, Future[str | Refusal]] = {}
        self._lock = threading.Lock()

    def file_of(self, bot: Bot, message: Outgoing) -> dict[str, str] | Preparation:
        """{"link": …} or {"id": …}, or the upload after which there is an id. Raises KeyError without link and key."""
        media, attempt, source = message.payload["media"], _attempt(message), _source(message)
        if (copy := self._attempts.get(attempt)) and copy.fresh:
            return {"id": copy.id}
        if "link" in media and not media.get("fetch") and not self._refused_links.get(source):
            return {"link": media["link"]}
        if known := self._copies.get(source):
            self._attempts.put(attempt, _Copy(known, fresh=False), LINK_KEPT)
            return {"id": known}
        return Preparation(partial(self._prepare, bot, message, source))

    def knows_another_way(self, message: Outgoing, error: MetaError) -> bool:
        """Whether it is the way the file was named that was refused, and there is another; then asks for it next."""
        if "media" not in message.payload:
            return False
        copy, source = self._attempts.pop(_attempt(message)), _source(message)
        if copy is None:
            by_link = error.code == _FILE_REFUSED and "link" in message.payload["media"]
            if by_link:
                self._refused_links.put(source, True, LINK_KEPT)
            return by_link
        if not _is_about_the_copy(error):
            return False
        self._copies.forget(source, copy.id)
        return not copy.fresh

    def _prepare(self, bot: Bot, message: Outgoing, source: Source) -> Refusal | None:
        """Have the file uploaded once: whoever needs the same one meanwhile waits, and shares what comes of it."""
        with self._lock:
            if self._copies.get(source):
                return None
            pending = self._under_way.get(source)
            if joined := pending is not None:
                upload = pending
            else:
                upload = self._under_way[source] = Future()
        if not joined:
            self._complete(upload, bot, message, source)
        try:
            result = upload.result(UPLOAD_SECONDS)
        except TimeoutError:
            reason = f"another message's upload of the same file did not end in {UPLOAD_SECONDS:g} s"
            return Unavailable("network", reason, chargeable=True)
        if not isinstance(result, str):
            return result
        self._attempts.put(_attempt(message), _Copy(result, fresh=True), LINK_KEPT)
        return None

    def _complete(self, upload: "Future[str | Refusal]", bot: Bot, message: Outgoing, source: Source) -> None:
        try:
            result = self._upload(bot, message)
            if isinstance(result, str):
                self._copies.put(source, result, LINK_KEPT if "link" in message.payload["media"] else KEPT)
            upload.set_result(result)
        except BaseException as error:
            upload.set_exception(error)  # raised again by everybody who waits
        finally:
            with self._lock:
                del self._under_way[source]

    def _upload(self, bot: Bot, message: Outgoing) -> str | Refusal:
        try:
            with self._files.of(message) as (path, mime_type):
                url, header = self._provider.url(bot, "media"), self._provider.header(bot)
                return _uploaded(*post_file(url, header, path, mime_type, self._patience_ms))
        except NoFile as error:
            return error.refusal
        except ConnectionError as broken:
            return Unavailable("network", str(broken), chargeable=not isinstance(broken, NotConnected))


def _attempt(message: Outgoing) -> Attempt:
    return message.id, message.attempts


def _source(message: Outgoing) -> Source:
    media = message.payload["media"]
    return (message.bot_id, message.kind, media["link"]) if "link" in media else (message.bot_id, "", media["key"])


def _is_about_the_copy(error: MetaError) -> bool:
    if error.code in _PARAMETER_REFUSED:
        return "media" in error.message.lower()
    return error.code == _FILE_REFUSED


def _uploaded(status: int, body: bytes) -> str | Refusal:
    """What the answer to an upload says. Nothing was sent yet, so it may always be repeated."""
    found = responses.field(responses.read(body), "id") if 200 <= status < 300 else None
    if isinstance(found, str) and found:
        return found
    if status == 413 and responses.error_of(responses.read(body)) is None:
        return Rejected("http_413", "the provider's gateway says the file is too large: send a smaller one")
    if refusal := responses.refusal(status, body):
        return refusal
    return Unavailable("upload", f"the upload failed ({responses.shown(status, body)})", chargeable=True)
