"""The server of our HTTP processes under gunicorn: uvicorn with our limits, which ends in time even if clients hang."""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker

from services.http_server.protocol import HttpProtocol

#: Seconds for open answers once the process is to end; gunicorn's graceful_timeout kills after two more.
DRAIN_TIMEOUT_SECONDS = 6


class Worker(UvicornWorker):  # type: ignore[misc]
    """gunicorn's worker. It ignores headers that name the client, because every client could send them."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **UvicornWorker.CONFIG_KWARGS,
        "http": HttpProtocol,
        "ws": "none",
        "proxy_headers": False,
        "server_header": False,
        "timeout_graceful_shutdown": DRAIN_TIMEOUT_SECONDS,
    }
