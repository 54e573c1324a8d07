"""Files that came in, as long as they are with the provider: what it says of one, and how it is asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from bisnesctl.settings import Settings
from services.connectors.meta.provider import DIALOG360, Provider
from services.connectors.meta.translation import responses
from services.message import Bot, Rejected

#: Seconds to connect and to wait for what the provider says of a file.
TIMEOUT = (5, 30)
#: Hosts of Meta that may see a token, with everything below those that begin with a dot.
TRUSTED = ("lookaside.fbsbx.com", ".fbcdn.net", ".whatsapp.net", "graph.facebook.com")
#: The host in whose place 360dialog serves files (360dialog, "Media": retrieve and download).
SWAPPED = "lookaside.fbsbx.com"


class Lost(Exception):
    """The provider has no such file any more, or never had."""


class NotNow(Exception):
    """The provider does not give the file just now."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of the provider's. Its address lives for 5 minutes (Cloud API reference, "Media": retrieve media URL)."""

    url: str
    mime_type: str | None
    sha256: str | None  # hexadecimal or base64
    size: int | None  # bytes


class Received:
    """Asks the providers about files. Safe for threads."""

    def __init__(self, settings: Settings) -> None:
        self._provider = Provider(settings)
        self._graph, self._dialog360 = settings.graph_url, settings.dialog360_base

    def find(self, bot: Bot, media_id: str) -> Remote:
        """Where a file is now. Raises `Lost` and `NotNow`; neither shows a credential or a file's address."""
        url = self._provider.file_url(bot, media_id)
        credential = _Header(self._provider.header(bot))
        try:
            answer = requests.get(url, auth=credential, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            raise NotNow(f"the provider cannot be reached ({type(error).__name__})") from None
        said = responses.read(answer.content)
        found = responses.field(said, "url")
        if answer.status_code != 200 or not isinstance(found, str):
            raise _failure(answer.status_code, answer.content)
        return Remote(self._swapped(bot, found), *_told(said))

    def headers_for(self, bot: Bot, url: str) -> Sequence[str]:
        """The header lines that an address is asked with: the credential, if it is one of the bot's provider."""
        if bot.connection_type == DIALOG360:
            trusted = _is_below(url, self._dialog360)
        else:
            trusted = _is_below(url, self._graph) or _is_of_meta(url)
        return (self._provider.header(bot),) if trusted else ()

    def _swapped(self, bot: Bot, url: str) -> str:
        """360dialog's files are asked for at its own address, which knows the key."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return url
        if bot.connection_type != DIALOG360 or parts.hostname != SWAPPED:
            return url
        return f"{self._dialog360}{parts.path}{f'?{parts.query}' if parts.query else ''}"


class _Header(AuthBase):
    """Sets one header; as `auth` it also keeps a .netrc from replacing it."""

    def __init__(self, line: str) -> None:
        self._name, _, self._value = line.partition(": ")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


def _told(said: object) -> tuple[str | None, str | None, int | None]:
    mime_type, sha256, size = (responses.field(said, name) for name in ("mime_type", "sha256", "file_size"))
    size = int(size) if isinstance(size, str) and size.isascii() and size.isdigit() else size
    return (
        mime_type if isinstance(mime_type, str) else None,
        sha256 if isinstance(sha256, str) else None,
        size if isinstance(size, int) else None,
    )


def _failure(status: int, body: bytes) -> Exception:
    refusal = responses.refusal(status, body)
    if refusal is None:
        return NotNow(f"the provider does not say where the file is ({responses.shown(status, body)})")
    said = responses.read(body)
    known = responses.error_of(said) is not None or isinstance(responses.field(said, "meta"), dict)
    if isinstance(refusal, Rejected) or (status in (404, 410) and known):
        return Lost(f"{refusal.reason} (code {refusal.code})")
    return NotNow(f"{refusal.reason} (code {refusal.code})")


def _is_of_meta(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme == "https" and any(
        host.endswith(name) if name.startswith(".") else host == name for name in TRUSTED
    )


def _is_below(url: str, base: str) -> bool:
    """Whether an address is of the same server as `base`: same protocol, host and port."""
    try:
        one, other = urlsplit(url), urlsplit(base)
        return (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)
    except ValueError:
        return False
