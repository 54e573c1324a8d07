"""The files of outgoing messages: referred to by their link, or by the id of a copy uploaded to the provider.

Meta fetches links itself. If it cannot, we fetch the file and upload it. Files of our own are always uploaded. The
caches here save uploads and record which way was tried; their content may be lost at any time.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.connector import Preparation, Refusal, Unsupported
from services.connectors import limits
from services.connectors.meta.translation import errors
from services.connectors.meta.translation.errors import FILE_REFUSED, MetaError
from services.connectors.meta.ttl_cache import TtlCache
from services.connectors.meta.upload_request import UPLOAD_TIMEOUT_SECONDS, NotConnected
from services.connectors.outgoing_files import LINK_CODE, Files, NoFile, given_name
from services.message import Bot, Outgoing, Rejected, Unavailable

#: How long an uploaded copy is used. Meta keeps it for 30 days.
COPY_VALID_SECONDS = 25 * 86400
#: How long a link is assumed to lead to the same file, and how long a refused link is avoided: Meta caches as long.
LINK_VALID_SECONDS = 600
#: How long a message waits for another message's upload of the same file: the time to fetch it, and to upload it.
SHARED_UPLOAD_TIMEOUT_SECONDS = 180.0 + UPLOAD_TIMEOUT_SECONDS
#: Maximum number of copies, links and sends in the caches. There are never more sends in flight.
MAX_CACHED = 10_000

#: Our codes for a file that we cannot upload.
_OF_THE_FILE = (LINK_CODE, "unsupported_media", "media_too_large")
#: The codes with which Meta may refuse the id of a copy that it no longer has; only the words distinguish it.
_PARAMETER_REFUSED = (100, 131009)

Source = tuple[int, str, str]  # the bot, the kind (of links only, whose allowed files depend on it), the link or key
Attempt = tuple[int, int]  # a message and the number of its earlier attempts


@dataclass(frozen=True, slots=True)
class Copy:
    """An uploaded copy."""

    id: str
    filename: str | None = None  # its server's name, if the caller gave none

    @property
    def fields(self) -> dict[str, str]:
        """The reference of a request to the copy."""
        return {"id": self.id} | ({"filename": self.filename} if self.filename else {})


@dataclass(frozen=True, slots=True)
class _Use:
    """The uploaded copy that an attempt refers to."""

    copy: Copy
    fresh: bool  # uploaded for this attempt; if it is refused, another copy would be too


class Uploads:
    """Decides how a request refers to the message's file, and uploads the file if necessary. Safe for threads."""

    def __init__(self, post_file: Callable[[Bot, Path, str], tuple[int, bytes]], files: Files) -> None:
        """`post_file` uploads a file of this MIME type and returns the answer's status and body; see `post_file`."""
        self._post_file = post_file
        self._files = files
        self._copies: TtlCache[Source, Copy] = TtlCache(MAX_CACHED)
        self._refused_links: TtlCache[Source, bool] = TtlCache(MAX_CACHED)
        self._link_names: TtlCache[Source, str] = TtlCache(MAX_CACHED)
        self._attempts: TtlCache[Attempt, _Use] = TtlCache(MAX_CACHED)
        self._under_way: dict[Source, Future[Copy | Refusal]] = {}
        self._lock = threading.Lock()

    def file_of(self, bot: Bot, message: Outgoing) -> dict[str, str] | Preparation:
        """{"link": …} or {"id": …}, or the upload that must come first. Raises KeyError without link and key."""
        attempt, source = _attempt(message), _source(message)
        if (use := self._attempts.get(attempt)) and use.fresh:
            return use.copy.fields
        if self._goes_by_link(message, source):
            filename = self._link_names.get(source)
            return {"link": message.payload["media"]["link"]} | ({"filename": filename} if filename else {})
        if known := self._copies.get(source):
            self._attempts.put(attempt, _Use(known, fresh=False), LINK_VALID_SECONDS)
            return known.fields
        return Preparation(partial(self._prepare, bot, message, source))

    def _goes_by_link(self, message: Outgoing, source: Source) -> bool:
        """Whether Meta fetches the file itself. We fetch a document whose name only its server knows."""
        media = message.payload["media"]
        if "link" not in media or media.get("fetch") or self._refused_links.get(source):
            return False
        return not _has_unknown_name(message) or self._link_names.get(source) is not None

    def knows_another_way(self, message: Outgoing, error: MetaError) -> bool:
        """Whether only the reference to the file was refused and there is another, which `file_of` then returns."""
        if "media" not in message.payload:
            return False
        use, source = self._attempts.pop(_attempt(message)), _source(message)
        if use is None:
            by_link = error.code == FILE_REFUSED and "link" in message.payload["media"]
            if by_link:
                self._refused_links.put(source, True, LINK_VALID_SECONDS)
            return by_link
        if not _is_about_the_copy(error):
            return False
        self._copies.forget(source, use.copy)
        return not use.fresh

    def _prepare(self, bot: Bot, message: Outgoing, source: Source) -> Refusal | None:
        """Upload the file once. Other messages with the same file wait, and share the result."""
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
            result = upload.result(SHARED_UPLOAD_TIMEOUT_SECONDS)
        except TimeoutError:
            reason = f"another message's upload of the same file did not end in {SHARED_UPLOAD_TIMEOUT_SECONDS:g} s"
            return Unavailable("network", reason, chargeable=True)
        if not isinstance(result, Copy):
            return self._by_link(message, source, result)
        self._attempts.put(_attempt(message), _Use(result, fresh=True), LINK_VALID_SECONDS)
        return None

    def _by_link(self, message: Outgoing, source: Source, refusal: Refusal) -> Refusal | None:
        """Let Meta fetch a link that we have fetched for its name alone, if we cannot upload the file."""
        media = message.payload["media"]
        if refusal.code not in _OF_THE_FILE or "link" not in media or media.get("fetch"):
            return refusal
        if self._refused_links.get(source):
            return refusal
        self._link_names.put(source, self._link_names.get(source) or "", LINK_VALID_SECONDS)
        return None

    def _complete(self, upload: "Future[Copy | Refusal]", bot: Bot, message: Outgoing, source: Source) -> None:
        try:
            result = self._upload(bot, message)
            if isinstance(result, Copy):
                self._copies.put(
                    source, result, LINK_VALID_SECONDS if "link" in message.payload["media"] else COPY_VALID_SECONDS
                )
            upload.set_result(result)
        except BaseException as error:
            upload.set_exception(error)  # raised again by every message that waits
        finally:
            with self._lock:
                del self._under_way[source]

    def _upload(self, bot: Bot, message: Outgoing) -> Copy | Refusal:
        try:
            with self._files.of(message) as (path, mime_type, filename):
                if refusal := _unsupported(message.kind, mime_type):
                    self._link_names.put(_source(message), filename or "", LINK_VALID_SECONDS)
                    return refusal
                media_id = _uploaded(*self._post_file(bot, path, mime_type))
                return Copy(media_id, filename) if isinstance(media_id, str) else media_id
        except NoFile as error:
            return error.refusal
        except ConnectionError as broken:
            return Unavailable("network", str(broken), chargeable=not isinstance(broken, NotConnected))


def _attempt(message: Outgoing) -> Attempt:
    return message.id, message.attempts


def _unsupported(kind: str, mime_type: str) -> Rejected | None:
    try:
        limits.check_meta_file(kind, mime_type)
    except Unsupported as error:
        return Rejected("unsupported_media", str(error))
    return None


def _has_unknown_name(message: Outgoing) -> bool:
    return message.kind == "document" and not (message.payload.get("filename") or given_name(message))


def _source(message: Outgoing) -> Source:
    media = message.payload["media"]
    return (message.bot_id, message.kind, media["link"]) if "link" in media else (message.bot_id, "", media["key"])


def _is_about_the_copy(error: MetaError) -> bool:
    if error.code in _PARAMETER_REFUSED:
        return "media" in error.message.lower()
    return error.code == FILE_REFUSED


def _uploaded(status: int, body: bytes) -> str | Refusal:
    """The id in the answer to an upload, or why there is none. Nothing was sent yet, so it may always be repeated."""
    found = errors.field(errors.read(body), "id") if 200 <= status < 300 else None
    if isinstance(found, str) and found:
        return found
    if status == 413 and errors.error_of(errors.read(body)) is None:
        return Rejected("http_413", "the provider's gateway says the file is too large: send a smaller one")
    if refusal := errors.refusal(status, body):
        return refusal
    return Unavailable("upload", f"the upload failed ({errors.shown(status, body)})", chargeable=True)
