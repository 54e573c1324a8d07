"""The simulators' HTTP server, on loopback alone: gunicorn, because it keeps connections alive and stops gracefully."""

from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from services.gunicorn_conf import post_fork, worker_tmp_dir

#: Requests that can wait at the same time, such as those that a rule delays.
THREADS = 256
#: Two workers of ours hold up to META_WINDOW connections each.
MAX_CONNECTIONS = 4096
KEEP_ALIVE_SECONDS = 75
#: How long a stopping simulator lets running requests finish; supervisord kills it after 10 seconds.
STOP_TIMEOUT_SECONDS = 5


class Server(BaseApplication):  # type: ignore[misc]
    """One process with many threads, and gunicorn's master above it."""

    def __init__(self, port: int, build: Callable[[], Flask], close: Callable[[], None]) -> None:
        """`build` and `close` run in the serving process, at its start and at its end."""
        self._port = port
        self._build = build
        self._close = close
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn, for its settings."""
        settings: dict[str, Any] = {
            "bind": f"127.0.0.1:{self._port}",
            "worker_class": "gthread",
            "threads": THREADS,
            "worker_connections": MAX_CONNECTIONS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "graceful_timeout": STOP_TIMEOUT_SECONDS,
            "worker_tmp_dir": worker_tmp_dir,
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_fork": post_fork,
            "worker_exit": lambda server, worker: self._close(),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called by gunicorn, for the application."""
        return self._build()
