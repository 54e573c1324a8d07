"""A file server on a loopback address."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask, Response, redirect, request
from werkzeug.serving import make_server

from tests.support.waiting import HANG_SECONDS


class FileServer:
    """Serves the files that a test offers, and records requests. It can be slow, redirect, or lie about the length."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.files: dict[str, Callable[[], Any]] = {}  # by path
        self.asked: Counter[str] = Counter()  # requests by path
        self.headers: dict[str, dict[str, str]] = {}  # of the last request, by path
        self.released = threading.Event()  # ends the wait of stalled answers
        app = Flask(__name__)
        app.add_url_rule("/<path:path>", view_func=self._serve, methods=["GET", "HEAD", "POST"])
        self._server = make_server(host, 0, app, threaded=True)
        address = f"[{host}]" if ":" in host else host
        self.port = self._server.server_port
        self.url = f"http://{address}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def offer(
        self, path: str, data: bytes, mime_type: str = "application/octet-stream", status: int = 200, **headers: str
    ) -> str:
        """Answer `path` with bytes. Returns the URL."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.files[path] = lambda: Response(data, status, headers, content_type=mime_type)
        return f"{self.url}/{path}"

    def lead(self, path: str, target: str, status: int = 302) -> str:
        """Redirect `path`. Returns the URL."""
        self.files[path] = lambda: redirect(target, status)
        return f"{self.url}/{path}"

    def stream(self, path: str, chunks: Callable[[], Iterator[bytes]]) -> str:
        """Answer `path` in chunks, without a length. Returns the URL."""
        self.files[path] = lambda: Response(chunks(), content_type="application/octet-stream")
        return f"{self.url}/{path}"

    def stall(self, path: str) -> str:
        """Answer `path` with a beginning, and send nothing more until the server closes. Returns the URL."""

        def chunks() -> Iterator[bytes]:
            yield b"beginning"
            self.released.wait(2 * HANG_SECONDS)

        return self.stream(path, chunks)

    def _serve(self, path: str) -> Any:
        self.asked[path] += 1
        self.headers[path] = dict(request.headers)
        return self.files[path]() if path in self.files else ("not here", 404)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
