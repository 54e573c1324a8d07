"""Files fetched from untrusted URLs; requests to private networks are blocked."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bisnesctl.setting_types import Network
from services.media import kinds, names
from services.media.fetch_errors import FetchFailed, FetchRefused, FetchTooLarge

if TYPE_CHECKING:
    from services.media.transfer import Transfer

__all__ = ["FetchFailed", "FetchRefused", "FetchTooLarge", "Fetched", "Fetcher"]

#: Redirects that are followed, at most.
MAX_REDIRECTS = 5
#: Seconds for a whole file, redirects included.
FETCH_TIMEOUT_SECONDS = 120.0
HeadersFor = Callable[[str], Sequence[str]]  # the header lines that an address is sent


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched file; it exists only within the context."""

    path: Path
    mime_type: str  # by its bytes, or else by the server
    size: int  # bytes
    filename: str | None  # the server's name of it, or that of its URL; with the ending of its type


def _nothing(url: str) -> Sequence[str]:
    return ()


class Fetcher:
    """Fetches files. Safe for threads."""

    def __init__(self, open_networks: Sequence[Network], seconds: float = FETCH_TIMEOUT_SECONDS) -> None:
        """`open_networks`: private networks that may be reached all the same; `seconds`: for one file."""
        self._open_networks, self._seconds = open_networks, seconds

    @contextmanager
    def fetch(self, url: str, limit: int, headers_for: HeadersFor = _nothing) -> Iterator[Fetched]:
        """The file at a http(s) address, of at most `limit` bytes, for as long as the context lasts.

        `headers_for` says which header lines an address is sent; it is asked again for every redirect, so that a
        credential goes where it belongs. Raises `FetchRefused` and `FetchFailed`; neither shows the address.
        """
        with tempfile.NamedTemporaryFile(prefix="bisnesctl-fetch-") as file:
            answer = self._follow(url, limit, headers_for, file)
            file.flush()
            file.seek(0)
            mime_type = kinds.true_type(file.read(kinds.HEAD), answer.mime_type)
            name = answer.filename or names.of_url(url)
            yield Fetched(Path(file.name), mime_type, answer.size, name and names.with_ending(name, mime_type))

    def _follow(self, url: str, limit: int, headers_for: HeadersFor, file: IO[bytes]) -> "Transfer":
        from services.media.transfer import Transfer  # libcurl takes megabytes, and few messages have a link

        deadline = time.monotonic() + self._seconds
        for _ in range(MAX_REDIRECTS + 1):
            answer = Transfer(url, limit, file, self._open_networks)
            answer.perform(headers_for(url), deadline - time.monotonic())
            if answer.location is None:
                return answer
            url = answer.location
        raise FetchRefused(f"it is redirected more than {MAX_REDIRECTS} times")
