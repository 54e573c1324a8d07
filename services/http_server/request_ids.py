"""Request ids: `X-Request-Id` of the client if it is sound, or else one of ours.

Each answer has it, each message is stored with it, and log lines name it: `bisnesctl logs --message ID`.
"""

import itertools
import os
import re
import secrets
from collections.abc import MutableMapping
from typing import Any

#: The header, in the case of ASGI.
HEADER = b"x-request-id"
#: Characters of an id, at most.
MAX_CHARACTERS = 128
#: The key of an ASGI scope and of a WSGI environment.
KEY = "bisnes.request_id"

_SOUND = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,%d}" % (MAX_CHARACTERS - 1))


class _Maker:
    """A random name of the process and a counter: a tenth of the cost of a UUID."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin with another name. A forked process needs it."""
        self._prefix, self._numbers = secrets.token_hex(8), itertools.count(1)

    def make(self) -> str:
        """An id that no other request of any process has."""
        return f"{self._prefix}-{next(self._numbers):x}"


_maker = _Maker()
os.register_at_fork(after_in_child=_maker.renew)
#: Makes an id.
make = _maker.make


def is_sound(value: bytes) -> bool:
    """Whether an id of a client can be stored and logged as it is."""
    return _SOUND.fullmatch(value) is not None


def of(scope: MutableMapping[str, Any]) -> str:
    """The id of a request. Our server has set it; under another one, it is made now."""
    found: str | None = scope.get(KEY)
    if found is None:
        found = scope[KEY] = make()
    return found
