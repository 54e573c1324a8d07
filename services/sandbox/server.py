"""The simulators' HTTP server, on loopback alone: that of our other processes, with the same limits and deadlines."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from flask import Flask
from gunicorn.app.base import BaseApplication

from services.gunicorn_conf import on_starting, worker_tmp_dir
from services.http_server.asgi import Receive, Scope, Send
from services.http_server.protocol import HttpProtocol
from services.http_server.server import Worker
from services.http_server.service import Service
from services.runtime.heartbeat import Counters
from services.sandbox import cut_connections

#: Requests that can be delayed at the same time: two workers of ours send META_WINDOW each.
THREADS = 600
#: Requests that can wait for a thread.
MAX_QUEUE = 4096
#: How long a stopping simulator lets running requests finish; supervisord kills it after 10 seconds.
STOP_TIMEOUT_SECONDS = 5
#: Seconds after a signal to stop after which it ends, whether or not requests still run.
END_TIMEOUT_SECONDS = 8

#: The key of a request's scope with the function that closes its connection.
_CLOSE = "sandbox.close"


class _Protocol(HttpProtocol):
    """A connection that a simulator may close."""

    def on_message_begin(self) -> None:
        """Let the application close it."""
        super().on_message_begin()
        scope: Scope = self.scope  # type: ignore[assignment]
        scope[_CLOSE] = self.abort


class SimulatorWorker(Worker):
    """gunicorn's worker with such connections."""

    instance = "sandbox"
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **Worker.CONFIG_KWARGS,
        "http": _Protocol,
        "timeout_graceful_shutdown": STOP_TIMEOUT_SECONDS,
    }


class _Application:
    """The simulators as a service."""

    def __init__(self, flask: Flask) -> None:
        self.counters = Counters()
        self._flask = flask

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._flask(environ, start_response)


class Simulators:
    """The ASGI application."""

    def __init__(self, flask: Flask, max_body: int) -> None:
        """`max_body`: bytes of a body, at most."""
        self._service = Service(_Application(flask), max_body, threads=THREADS, max_queue=MAX_QUEUE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or cut its connection."""

        async def send_or_cut(event: Any) -> None:
            if event["type"] == "http.response.start" and (cut_connections.HEADER.encode(), b"1") in event["headers"]:
                scope[_CLOSE]()
            await send(event)

        await self._service(scope, receive, send_or_cut)


class Server(BaseApplication):  # type: ignore[misc]
    """One process with many threads."""

    def __init__(self, port: int, build: Callable[[], Simulators], close: Callable[[], None]) -> None:
        """`build` and `close` run in the serving process, at its start and at its end."""
        self._port = port
        self._build = build
        self._close = close
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn, for its settings."""
        settings: dict[str, Any] = {
            "bind": f"127.0.0.1:{self._port}",
            "worker_class": "services.sandbox.server.SimulatorWorker",
            "graceful_timeout": END_TIMEOUT_SECONDS,
            "worker_tmp_dir": worker_tmp_dir,
            "loglevel": "warning",
            "control_socket_disable": True,
            "on_starting": on_starting,
            "worker_exit": lambda server, worker: self._close(),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Simulators:
        """Called by gunicorn, for the application."""
        return self._build()
