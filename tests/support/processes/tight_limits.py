"""gunicorn's settings of our HTTP processes, with limits that a test reaches within seconds."""

from services.gunicorn_conf import *  # noqa: F403
from services.http_server.admission import MAX_QUEUE, Admission
from services.http_server.limits import Limits
from services.http_server.protocol import HttpProtocol
from services.http_server.server import Worker as RealWorker

#: Connections that one process takes.
MAX_CONNECTIONS = 150
#: Seconds for which a request waits for a thread, at most.
QUEUE_TIMEOUT_SECONDS = 12.0

Admission.__init__.__defaults__ = (MAX_QUEUE, QUEUE_TIMEOUT_SECONDS)


class TightProtocol(HttpProtocol):
    """A connection with little patience."""

    limits = Limits(
        max_connections=MAX_CONNECTIONS,
        head_timeout_seconds=4.0,
        body_window_seconds=4.0,
        min_body_bytes_per_window=1000,
        write_timeout_seconds=4.0,
        linger_seconds=1.0,
        discard_timeout_seconds=3.0,
        sweep_seconds=0.2,
    )


class Worker(RealWorker):
    """gunicorn's worker with such connections."""

    CONFIG_KWARGS = {**RealWorker.CONFIG_KWARGS, "http": TightProtocol}  # noqa: RUF012


worker_class = Worker  # type: ignore[misc]
