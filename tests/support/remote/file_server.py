"""A server of files of a test's own, on a loopback address."""

import threading
from collections import Counter

from flask import Flask, Response, redirect, request
from werkzeug.serving import make_server


class FileServer:
    """Serves what it is told to, remembers what it was asked; may be slow, redirect, or lie about the length."""

    def __init__(self, host="127.0.0.1"):
        self.files = {}  # path: Response, or a function that makes one
        self.asked = Counter()
        self.headers = {}  # path: the headers of its last request
        self.released = threading.Event()  # ends the wait of slow answers
        app = Flask(__name__)
        app.add_url_rule("/<path:path>", view_func=self._serve, methods=["GET", "HEAD", "POST"])
        self._server = make_server(host, 0, app, threaded=True)
        address = f"[{host}]" if ":" in host else host
        self.port = self._server.server_port
        self.url = f"http://{address}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def offer(self, path, data, mime_type="application/octet-stream", status=200, **headers):
        """Answer `path` with bytes; returns the URL."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.files[path] = lambda: Response(data, status, headers, content_type=mime_type)
        return f"{self.url}/{path}"

    def lead(self, path, target, status=302):
        """Redirect `path`; returns the URL."""
        self.files[path] = lambda: redirect(target, status)
        return f"{self.url}/{path}"

    def stream(self, path, chunks):
        """Answer `path` bit by bit, of a length that is not told; returns the URL."""
        self.files[path] = lambda: Response(chunks(), content_type="application/octet-stream")
        return f"{self.url}/{path}"

    def stall(self, path):
        """Answer `path` with a beginning and, until the server closes, nothing more; returns the URL."""

        def chunks():
            yield b"beginning"
            self.released.wait(60)

        return self.stream(path, chunks)

    def _serve(self, path):
        self.asked[path] += 1
        self.headers[path] = dict(request.headers)
        return self.files[path]() if path in self.files else ("not here", 404)

    def close(self):
        """End it."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
