"""The file of a message as a request gives it: a link, a data URL, or a part of a form; checked before it is kept."""

import binascii
import mimetypes
import re
import tempfile
from contextlib import closing
from dataclasses import dataclass
from typing import IO, BinaryIO, cast
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from services.api.messages.request_fields import invalid
from services.http_server.errors import ApiError
from services.media import kinds
from services.media.kinds import MediaRefused
from services.media.store import MediaStore, MediaTooLarge, MediaUnavailable
from services.message import StoredFile

#: Characters of a link and of a file's name, at most.
MAX_LINK, MAX_FILENAME = 4096, 240
#: Bytes of a file that are held in memory; a larger one is spooled to disk.
SPOOLED = 1 << 19
#: Characters of a data URL before its comma, at most.
_MAX_PREFIX = 512

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a request, still in a temporary place."""

    stream: IO[bytes]
    declared: str | None  # its MIME type as the sender has it
    filename: str | None = None

    def keep(self, store: MediaStore, company_id: str, kind: str) -> StoredFile:
        """Check it against the kind, a key of `kinds.KINDS`, and keep it; returns what the payload says of it.

        Raises `ApiError`: media_too_large, unsupported_media, media_unavailable.
        """
        with closing(self.stream):
            mime_type = self._checked(kind)
            try:
                stored = store.put(company_id, cast(BinaryIO, self.stream), mime_type, kinds.KINDS[kind].limit)
            except MediaTooLarge as error:
                raise too_large(kind, error.limit) from None
            except MediaUnavailable as error:
                raise _unavailable(error) from error
        file: StoredFile = {"key": stored.key, "mimeType": mime_type, "size": stored.size, "sha256": stored.sha256}
        if self.filename:
            file["filename"] = self.filename
        return file

    def _checked(self, kind: str) -> str:
        size = self.stream.seek(0, 2)
        self.stream.seek(0)
        head = self.stream.read(kinds.HEAD)
        self.stream.seek(0)
        claimed = self._claimed()
        mime_type = kinds.true_type(head, claimed)
        if mime_type == kinds.UNKNOWN != claimed and size:
            raise _unsupported(f"the file is said to be of type {claimed}, but its content is not")
        try:
            kinds.check(kind, mime_type, size, kinds.is_animated(head))
        except MediaRefused as error:
            raise _of_refusal(error) from None
        return mime_type

    def _claimed(self) -> str:
        """The type that the sender says, or that the file's name tells where the sender says nothing."""
        said = kinds.normalise(self.declared)
        if said != kinds.UNKNOWN or not self.filename:
            return said
        return kinds.normalise(mimetypes.guess_type(self.filename)[0])


def _of_refusal(error: MediaRefused) -> ApiError:
    return ApiError(413, "media_too_large", str(error)) if error.code == "media_too_large" else _unsupported(str(error))


def _unavailable(error: MediaUnavailable) -> ApiError:
    message = f"the file cannot be kept just now, the message was not stored: {error}"
    return ApiError(503, "media_unavailable", message, {"Retry-After": "5"})


def _unsupported(message: str) -> ApiError:
    return ApiError(415, "unsupported_media", message)


def too_large(kind: str, limit: int, advice: str = "") -> ApiError:
    """The 413 for a file, or the body that holds it, of more than `limit` bytes."""
    amount = f"{limit // kinds.MB} MB" if limit >= kinds.MB else f"{limit // kinds.KB} KB"
    return ApiError(413, "media_too_large", f"a file sent as {kind} may have {amount} at most{advice}")


def filename(value: str | None) -> str | None:
    """A file's name without folders and control characters; None where nothing is left of it."""
    bare = _CONTROLS.sub("", re.split(r"[/\\]", value or "")[-1]).strip()
    if len(bare) > MAX_FILENAME:  # the ending says what it is
        bare = bare[: MAX_FILENAME - 20] + bare[-20:]
    return bare if bare.strip(".") else None


def filename_of(address: str) -> str | None:
    """The name of the file that a link leads to, where its last part looks like one."""
    name = filename(unquote(urlsplit(address).path))
    return name if name and "." in name else None


def link(name: str, value: str) -> str:
    """A http(s) link in ASCII, its form checked; whether it leads anywhere is found out when it is sent."""
    if len(value) > MAX_LINK:
        raise invalid(f"{name} has {len(value)} characters, at most {MAX_LINK} are allowed")
    try:
        parts = urlsplit(value.strip())
        host, _ = parts.hostname, parts.port  # the port is read to be checked
    except ValueError as error:
        raise invalid(f"{name} is no link: {error}") from None
    if parts.scheme not in ("http", "https") or not host or _CONTROLS.search(value):
        raise invalid(f"{name} must be a link that begins with https:// or http://, or a data URL")
    if "@" in parts.netloc:
        raise invalid(f"{name} must not contain a user name or password")
    if not _HOST.fullmatch(host):
        raise invalid(f"{name} names a host that is none; write letters beyond a to z as xn--…")
    return quote(value.strip(), safe="%/:=&?~#+!$,;'@()*[]")


#: From the alphabet for URLs and file names (RFC 4648, section 5) to the standard one.
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def data_url(name: str, value: str) -> Upload:
    """The file that a data URL (RFC 2397) holds. Raises `ApiError` (invalid_request)."""
    prefix, comma, _ = value[5 : 5 + _MAX_PREFIX].partition(",")
    if not comma:
        raise invalid(f"{name} is no data URL: data:<type>;base64,<content>")
    try:
        content = _content(value[5 + len(prefix) + 1 :], prefix.lower().endswith(";base64"))
    except ValueError as error:
        raise invalid(f"{name} is no data URL: {error}") from None
    stream = tempfile.SpooledTemporaryFile(SPOOLED)  # noqa: SIM115 - closed once it is kept
    stream.write(content)
    return Upload(cast(IO[bytes], stream), prefix)


def _content(text: str, is_base64: bool) -> bytes:
    """Base64 as encoders write it: with line breaks (MIME), in the alphabet for URLs, with or without padding."""
    if not is_base64:
        return unquote_to_bytes(text)
    digits = "".join(unquote(text).split()).translate(_STANDARD_ALPHABET)
    return binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True)
