"""The server of an API process under gunicorn: uvicorn, which ends in time even where a client takes nothing."""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker

#: Seconds for open answers once the process is to end; gunicorn's graceful_timeout kills after two more.
PATIENCE = 6


class Worker(UvicornWorker):  # type: ignore[misc]
    """gunicorn's worker."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {**UvicornWorker.CONFIG_KWARGS, "timeout_graceful_shutdown": PATIENCE}
