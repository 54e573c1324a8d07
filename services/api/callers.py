"""For whom a request counts while it is served, so that no company uses what the others need.

This is bookkeeping alone: what a request may see is decided by its key, each time.
"""

from dataclasses import dataclass

from services.api.auth import key_digest
from services.http_server.asgi import Scope
from services.http_server.errors import ApiError
from services.runtime.account_cache import AccountCache, Key

#: Threads that one company, one operator's key, all requests without a known key, and health may use at a time.
COMPANY_THREADS, OPERATOR_THREADS, STRANGER_THREADS, HEALTH_THREADS = 12, 24, 4, 4
#: Threads for what proves itself by other means than a key, such as providers' webhooks.
OPEN_THREADS = 16
#: Requests with a large body that one caller may upload at a time; further ones wait.
MAX_UPLOADS = 16
#: Requests with `?wait=` that one company, one operator's key, and all without a known key may have open in a process.
COMPANY_WAITS, OPERATOR_WAITS, STRANGER_WAITS = 100, 400, 50
#: Keys that are remembered by whose they were.
MAX_REMEMBERED = 10_000
_HEALTH = ("/health", "/api/health", "/metrics/")


@dataclass(frozen=True, slots=True)
class Caller:
    """A company, an operator's key, or a group of requests without one."""

    name: str
    threads: int
    waits: int = 0
    #: Whether its requests are kept apart from those of all keys.
    has_key: bool = True


STRANGERS = Caller("strangers", STRANGER_THREADS, STRANGER_WAITS, has_key=False)
HEALTH = Caller("health", HEALTH_THREADS, has_key=False)
OPEN = Caller("open", OPEN_THREADS)


class Callers:
    """Knows callers by the digests of their keys, also those that have to be looked up again."""

    def __init__(self, directory: AccountCache, open_paths: tuple[str, ...] = ()) -> None:
        """`open_paths`: what addresses begin with that ask for no key."""
        self._directory, self._open_paths = directory, open_paths
        self._known: dict[bytes, Caller] = {}

    def of(self, scope: Scope, digest: bytes | None) -> Caller:
        """Whose request it is. `digest`: its key's; None where it has none."""
        path: str = scope["path"]
        if path.startswith(_HEALTH):
            return HEALTH
        if self._open_paths and path.startswith(self._open_paths):
            return OPEN
        if digest is None:
            return STRANGERS
        key = self._directory.cached_key(digest)
        return self.note(digest, key) if key is not None else self._known.get(digest, STRANGERS)

    def note(self, digest: bytes, key: Key | None) -> Caller:
        """The caller of a key that was looked up; None: there is none (any more)."""
        if key is None:
            self._known.pop(digest, None)
            return STRANGERS
        caller = self._known.get(digest)
        if caller is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            caller = self._known[digest] = _of_key(digest, key)
        return caller

    def is_known(self, digest: bytes) -> bool:
        """Whether the key was somebody's a while ago."""
        return digest in self._known


def _of_key(digest: bytes, key: Key) -> Caller:
    if key.company_id is None:
        return Caller(f"operator:{digest.hex()}", OPERATOR_THREADS, OPERATOR_WAITS)
    return Caller(f"company:{key.company_id}", COMPANY_THREADS, COMPANY_WAITS)


#: The headers that a key may be in.
KEY_HEADERS = (b"x-api-key", b"authorization")


def digest_of(scope: Scope) -> bytes | None:
    """The digest of the key that a request presents; None where it presents none."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in KEY_HEADERS}
    try:
        return key_digest(headers.get(b"x-api-key"), headers.get(b"authorization"))
    except ApiError:
        return None
