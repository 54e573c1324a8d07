"""Client for the providers' descriptions of received files: where a file is, and how to request it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bisnesctl.settings import Settings
from services.connectors.meta.connector import DIALOG360, Provider
from services.connectors.meta.translation import errors
from services.message import Bot, Rejected

if TYPE_CHECKING:
    import requests

#: Limit to connect.
CONNECT_TIMEOUT_SECONDS = 5
#: Limit for the provider's answer.
READ_TIMEOUT_SECONDS = 30
#: Hosts of Meta that may receive a token. A leading dot stands for all hosts below.
TRUSTED_HOSTS = ("lookaside.fbsbx.com", ".fbcdn.net", ".whatsapp.net", "graph.facebook.com")
#: The host that must be replaced by 360dialog's own (360dialog, "Media": retrieve and download).
REPLACED_HOST = "lookaside.fbsbx.com"


class FileLost(Exception):
    """The provider no longer has the file, or never had it."""


class FileUnavailable(Exception):
    """The provider cannot deliver the file at the moment."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at the provider. Its address is valid for 5 minutes (Cloud API reference, "Media": retrieve media URL)."""

    url: str
    mime_type: str | None
    sha256: str | None  # hexadecimal or base64
    size: int | None  # bytes


class MediaClient:
    """Asks the providers about files. Safe for threads."""

    def __init__(self, settings: Settings) -> None:
        self._provider = Provider(settings)
        self._graph = settings.graph_url
        self._dialog360 = settings.dialog360_base

    def find(self, bot: Bot, media_id: str) -> RemoteFile:
        """Find the current address of a file. Raises `FileLost` and `FileUnavailable`, which show no secret."""
        import requests  # it takes 4 MiB, and many workers never receive a file

        url = self._provider.file_url(bot, media_id)
        credential = _Header(self._provider.header(bot))
        try:
            answer = requests.get(
                url, auth=credential, timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS), allow_redirects=False
            )
        except requests.RequestException as error:
            raise FileUnavailable(f"the provider cannot be reached ({type(error).__name__})") from None
        described = errors.read(answer.content)
        found = errors.field(described, "url")
        if answer.status_code != 200 or not isinstance(found, str):
            raise _failure(answer.status_code, answer.content)
        return RemoteFile(self._replaced(bot, found), *_properties(described))

    def headers_for(self, bot: Bot, url: str) -> Sequence[str]:
        """The header lines for a request to this address: the credential, if the host is one of the provider's."""
        if bot.connection_type == DIALOG360:
            trusted = _is_below(url, self._dialog360)
        else:
            trusted = _is_below(url, self._graph) or _is_of_meta(url)
        return (self._provider.header(bot),) if trusted else ()

    def _replaced(self, bot: Bot, url: str) -> str:
        """The address, at 360dialog's own host if it is 360dialog's file: only that host knows the key."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return url
        if bot.connection_type != DIALOG360 or parts.hostname != REPLACED_HOST:
            return url
        return f"{self._dialog360}{parts.path}{f'?{parts.query}' if parts.query else ''}"


class _Header:
    """Sets one header. As `auth`, it also prevents a .netrc from replacing it."""

    def __init__(self, line: str) -> None:
        self._name, _, self._value = line.partition(": ")

    def __call__(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        request.headers[self._name] = self._value
        return request


def _properties(described: object) -> tuple[str | None, str | None, int | None]:
    mime_type, sha256, size = (errors.field(described, name) for name in ("mime_type", "sha256", "file_size"))
    size = int(size) if isinstance(size, str) and size.isascii() and size.isdigit() else size
    return (
        mime_type if isinstance(mime_type, str) else None,
        sha256 if isinstance(sha256, str) else None,
        size if isinstance(size, int) else None,
    )


def _failure(status: int, body: bytes) -> Exception:
    refusal = errors.refusal(status, body)
    if refusal is None:
        return FileUnavailable(f"the provider does not say where the file is ({errors.shown(status, body)})")
    answer = errors.read(body)
    known = errors.error_of(answer) is not None or isinstance(errors.field(answer, "meta"), dict)
    if isinstance(refusal, Rejected) or (status in (404, 410) and known):
        return FileLost(f"{refusal.reason} (code {refusal.code})")
    return FileUnavailable(f"{refusal.reason} (code {refusal.code})")


def _is_of_meta(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme == "https" and any(
        host.endswith(name) if name.startswith(".") else host == name for name in TRUSTED_HOSTS
    )


def _is_below(url: str, base: str) -> bool:
    """Whether an address has the same protocol, host and port as `base`."""
    try:
        one, other = urlsplit(url), urlsplit(base)
        return (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)
    except ValueError:
        return False
