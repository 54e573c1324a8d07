"""Limits for clients: sizes, counts and deadlines of every HTTP port."""

import resource
from dataclasses import dataclass, field

#: Files and connections that a process needs beside its clients' connections.
RESERVED_FILES = 256
#: Connections of clients in one process, at most, if the limit of open files allows as many.
MAX_CONNECTIONS = 2048


def connection_limit() -> int:
    """Connections that this process may hold; of the files that it may open, half are for spooled data."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min((soft - RESERVED_FILES) // 2, MAX_CONNECTIONS), 64)


@dataclass(frozen=True)
class Limits:
    """Limits of a connection; each deadline counts only while the server waits for the client."""

    max_url_bytes: int = 8 << 10
    #: Bytes of a request line with its headers.
    max_head_bytes: int = 32 << 10
    #: Lines of headers.
    max_headers: int = 100
    #: Bytes around the content of a chunked body (sizes, extensions, trailers), beside eight for each byte of content.
    max_framing_bytes: int = 32 << 10
    max_connections: int = field(default_factory=connection_limit)
    #: Seconds for the head, from the connection or the head's first byte on.
    head_timeout_seconds: float = 10.0
    #: Seconds of a window in which a body must bring a minimum of bytes.
    body_window_seconds: float = 20.0
    #: That minimum.
    min_body_bytes_per_window: int = 20_000
    #: Seconds for a whole body.
    body_timeout_seconds: float = 1800.0
    #: Seconds in which a client reads nothing of its answer.
    write_timeout_seconds: float = 30.0
    #: Seconds for which a connection without a request is kept; longer than what proxies in front keep theirs.
    keep_alive_seconds: float = 75.0
    #: Seconds for which the rest of a refused request is read and dropped, so that the client sees the answer.
    linger_seconds: float = 2.0
    #: Seconds in which a connection may still bring a request once the process is to end.
    last_request_seconds: float = 0.5
    #: Seconds for the rest of a body whose request was answered before it was complete.
    discard_timeout_seconds: float = 30.0
    #: Seconds between two looks at the deadlines of all connections.
    sweep_seconds: float = 1.0
