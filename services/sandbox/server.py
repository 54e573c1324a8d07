"""The simulator's HTTP server, on loopback alone: gunicorn, since it keeps connections alive and stops gracefully."""

from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from services.gunicorn_conf import post_fork, worker_tmp_dir

#: Requests that may wait at once, such as those that are told to be slow.
THREADS = 256
#: Connections open at once; two workers hold up to META_WINDOW each.
CONNECTIONS = 4096
#: Seconds that a stopping simulator gives the requests in its hand; supervisord kills after 10.
STOP_TIMEOUT = 5


class Server(BaseApplication):  # type: ignore[misc]
    """One process with many threads, and gunicorn's master above it."""

    def __init__(self, port: int, build: Callable[[], Flask], close: Callable[[], None]) -> None:
        """`build` and `close` run in the serving process, at its start and at its end."""
        self._port, self._build, self._close = port, build, close
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings."""
        settings: dict[str, Any] = {
            "bind": f"127.0.0.1:{self._port}",
            "worker_class": "gthread",
            "threads": THREADS,
            "worker_connections": CONNECTIONS,
            "keepalive": 75,
            "graceful_timeout": STOP_TIMEOUT,
            "worker_tmp_dir": worker_tmp_dir,
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_fork": post_fork,
            "worker_exit": lambda server, worker: self._close(),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application."""
        return self._build()
