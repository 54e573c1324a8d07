"""The file of a message in a request: a link, a data URL, or a part of a form. Files are checked and stored."""

import binascii
import mimetypes
import re
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import IO, BinaryIO, cast
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from services.api.messages.request_fields import invalid
from services.http_server.error_codes import RETRY_FILE_SECONDS, ErrorCode, retry_after
from services.http_server.errors import ApiError
from services.media import kinds
from services.media.kinds import MediaRefused
from services.media.store import MediaQuotaExceeded, MediaTooLarge, MediaUnavailable, Stored
from services.message import StoredFile

#: Characters in a link.
MAX_LINK = 4096
#: Bytes of a file that are held in memory; a larger file is spooled to disk.
SPOOLED_BYTES = 1 << 19
#: Characters of a data URL before its comma.
_MAX_PREFIX = 512

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?", re.ASCII)


#: Stores the content of a stream: the company, the stream, its type, and its maximum size in bytes.
Put = Callable[[str, BinaryIO, str, int], Stored]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a request, in a temporary place."""

    stream: IO[bytes]
    declared: str | None  # the MIME type that the request declares
    filename: str | None = None

    def store(
        self, put: Put, company_id: str, kind: str, check_type: Callable[[str], None] = lambda _: None
    ) -> StoredFile:
        """Check and store the file for a message of `kind`, a key of `kinds.KINDS`; returns its fields in the payload.

        `put` is that of a `MediaStore`. `check_type` raises `ApiError` for a type that the channel does not accept.
        Raises `ApiError`: media_too_large, media_quota_exceeded, unsupported_media, media_unavailable.
        """
        with closing(self.stream):
            mime_type = self._checked(kind)
            check_type(mime_type)
            try:
                stored = put(company_id, cast(BinaryIO, self.stream), mime_type, kinds.KINDS[kind].limit)
            except MediaTooLarge as error:
                raise too_large(kind, error.limit) from None
            except MediaQuotaExceeded as error:
                raise ApiError(ErrorCode.MEDIA_QUOTA_EXCEEDED, str(error)) from None
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
        declared = self._declared_type()
        mime_type = kinds.true_type(head, declared)
        if mime_type == kinds.UNKNOWN != declared and size:
            raise ApiError(ErrorCode.UNSUPPORTED_MEDIA, f"the file is declared as {declared}, but its content is not")
        try:
            kinds.check(kind, mime_type, size, kinds.is_animated(head))
        except MediaRefused as error:
            raise ApiError(ErrorCode[error.code.upper()], str(error)) from None
        return mime_type

    def _declared_type(self) -> str:
        """The declared type, or the type of the file's name if none is declared."""
        declared = kinds.normalise(self.declared)
        if declared != kinds.UNKNOWN or not self.filename:
            return declared
        return kinds.normalise(mimetypes.guess_type(self.filename)[0])


def _unavailable(error: MediaUnavailable) -> ApiError:
    message = f"the file cannot be stored at the moment, the message was not stored: {error}"
    return ApiError(ErrorCode.MEDIA_UNAVAILABLE, message, retry_after(RETRY_FILE_SECONDS))


def too_large(kind: str, limit: int, advice: str = "") -> ApiError:
    """The 413 for a file, or its body, of more than `limit` bytes."""
    amount = f"{limit // kinds.MB} MB" if limit >= kinds.MB else f"{limit // kinds.KB} KB"
    return ApiError(ErrorCode.MEDIA_TOO_LARGE, f"a file sent as {kind} may have {amount} at most{advice}")


def link(name: str, value: str) -> str:
    """The link in ASCII, if it is a valid http(s) link. It is not fetched here."""
    if len(value) > MAX_LINK:
        raise invalid(f"{name} has {len(value)} characters, at most {MAX_LINK} are allowed")
    try:
        parts = urlsplit(value.strip())
        host, _ = parts.hostname, parts.port  # the port is read to be checked
    except ValueError as error:
        raise invalid(f"{name} is not a link: {error}") from None
    if parts.scheme not in ("http", "https") or not host or _CONTROLS.search(value):
        raise invalid(f"{name} must be a link that begins with https:// or http://, or a data URL")
    if "@" in parts.netloc:
        raise invalid(f"{name} must not contain a user name or password")
    if not _HOST.fullmatch(host):
        raise invalid(f"{name} has an invalid host; write letters beyond a to z as xn--…")
    return quote(value.strip(), safe="%/:=&?~#+!$,;'@()*[]")


#: From the base64 alphabet for URLs and file names (RFC 4648, section 5) to the standard one.
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def data_url(name: str, value: str) -> Upload:
    """The file in a data URL (RFC 2397). Raises `ApiError` (invalid_request)."""
    prefix, comma, _ = value[5 : 5 + _MAX_PREFIX].partition(",")
    if not comma:
        raise invalid(f"{name} is not a data URL: data:<type>;base64,<content>")
    try:
        content = _content(value[5 + len(prefix) + 1 :], prefix.lower().endswith(";base64"))
    except ValueError as error:
        raise invalid(f"{name} is not a data URL: {error}") from None
    stream = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115 - closed once it is stored
    stream.write(content)
    return Upload(cast(IO[bytes], stream), prefix)


def _content(text: str, is_base64: bool) -> bytes:
    """The content. Base64 may have line breaks (MIME), the alphabet for URLs, and no padding."""
    if not is_base64:
        return unquote_to_bytes(text)
    digits = "".join(unquote(text).split()).translate(_STANDARD_ALPHABET)
    return binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True)
