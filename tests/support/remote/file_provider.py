"""A provider of files that came in: tells where each is, serves it to whoever shows the credential, may misbehave."""

import hashlib
import threading
from collections import Counter

from flask import Flask, jsonify, redirect, request
from werkzeug.serving import make_server

TOKEN, KEY = "EAAGsecretsecretsecret", "d360-secret"


class FileProvider:
    """Meta below /v26.0, 360dialog below /360; both have the same files."""

    def __init__(self):
        self.files = {}  # id: bytes
        self.types = {}  # id: MIME type, where not image/jpeg
        self.told = {}  # id: fields that the description has instead
        self.refusals = {}  # id: (status, JSON) instead of the description
        self.broken = {}  # id: status instead of the file
        self.elsewhere = {}  # id: an address of another server instead of our own
        self.asked, self.served = Counter(), Counter()
        self.held = {}  # id: an event for which the file waits
        self.at_once, self.most = Counter(), Counter()  # downloads by the first letter of their ids
        self._lock = threading.Lock()
        app = Flask(__name__)
        routes = {
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

    def _describe(self, name, header, credential, base):
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

    def _serve(self, header, credential):
        name = request.args["id"]
        if request.headers.get(header) != credential:
            return "no credential", 401
        with self._lock:
            self.at_once[name[0]] += 1
            self.most[name[0]] = max(self.most[name[0]], self.at_once[name[0]])
        try:
            if name in self.held:
                self.held[name].wait(60)
        finally:
            with self._lock:
                self.at_once[name[0]] -= 1
        self.served[name] += 1
        if name in self.broken:
            status = self.broken[name]
            return redirect(self.elsewhere[f"{name} redirected"]) if status == 302 else ("broken", status)
        return self.files[name], 200, {"Content-Type": self.types.get(name, "image/jpeg")}

    def close(self):
        """End it."""
        for event in self.held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()
