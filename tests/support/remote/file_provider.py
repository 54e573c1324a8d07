"""A provider of inbound files: describes them, serves them to clients with the credential, and can fail."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from flask import Flask, jsonify, redirect, request
from werkzeug.serving import make_server

from tests.support.waiting import HANG_SECONDS

TOKEN = "EAAGsecretsecretsecret"
KEY = "d360-secret"


class FileProvider:
    """Meta below /v26.0, 360dialog below /360. Both have the same files."""

    def __init__(self) -> None:
        # All by the id of a file:
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}  # MIME types other than image/jpeg
        self.told: dict[str, dict[str, Any]] = {}  # fields that override the description
        self.refusals: dict[str, tuple[int, Any]] = {}  # status and JSON instead of the description
        self.broken: dict[str, int] = {}  # status instead of the file
        self.elsewhere: dict[str, str] = {}  # URL on another server instead of our own
        self.held: dict[str, threading.Event] = {}  # event that the file waits for
        self.asked: Counter[str] = Counter()  # requests of the description
        self.served: Counter[str] = Counter()  # downloads
        # By the first letter of the ids: downloads that run now, and the highest number that ran at once.
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.url = ""
        self._lock = threading.Lock()
        app = Flask(__name__)
        routes: dict[str, Callable[..., Any]] = {
            "/v26.0/<name>": lambda name: self._describe(name, "Authorization", f"Bearer {TOKEN}", self.url),
            "/360/<name>": lambda name: self._describe(name, "D360-API-KEY", KEY, "https://lookaside.fbsbx.com"),
            "/files": lambda: self._serve("Authorization", f"Bearer {TOKEN}"),
            "/360/files": lambda: self._serve("D360-API-KEY", KEY),
        }
        for rule, view in routes.items():
            app.add_url_rule(rule, rule, view)
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _describe(self, name: str, header: str, credential: str, base: str) -> Any:
        self.asked[name] += 1
        if request.headers.get(header) != credential:
            return jsonify({"error": {"code": 190, "message": "the token is not valid"}}), 401
        if name in self.refusals:
            status, answer = self.refusals[name]
            return jsonify(answer), status
        if name not in self.files:
            error = {"code": 100, "error_subcode": 33, "message": "no such object"}
            return jsonify({"error": error}), 400
        data = self.files[name]
        facts = {
            "url": self.elsewhere.get(name, f"{base}/files?id={name}&hash=secret-of-the-address"),
            "mime_type": self.types.get(name, "image/jpeg"),
            "sha256": hashlib.sha256(data).hexdigest(),
            "file_size": len(data),
        }
        return jsonify(facts | self.told.get(name, {}))

    def _serve(self, header: str, credential: str) -> Any:
        name = request.args["id"]
        if request.headers.get(header) != credential:
            return "no credential", 401
        with self._lock:
            self.at_once[name[0]] += 1
            self.most[name[0]] = max(self.most[name[0]], self.at_once[name[0]])
        try:
            if name in self.held:
                self.held[name].wait(2 * HANG_SECONDS)
        finally:
            with self._lock:
                self.at_once[name[0]] -= 1
        self.served[name] += 1
        if name in self.broken:
            status = self.broken[name]
            return redirect(self.elsewhere[f"{name} redirected"]) if status == 302 else ("broken", status)
        return self.files[name], 200, {"Content-Type": self.types.get(name, "image/jpeg")}

    def close(self) -> None:
        for event in self.held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()
