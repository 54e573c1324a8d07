"""A port that refuses connections, and that no other process can take meanwhile."""

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def refusing_url() -> Iterator[str]:
    """The URL of such a port: it is bound, but no process listens on it."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"
