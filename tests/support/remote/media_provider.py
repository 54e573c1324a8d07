"""A provider of one's own for tests of uploads: takes files and messages, and serves files to be fetched."""

import threading
import time
from collections import Counter
from dataclasses import dataclass

from flask import Flask, jsonify, request
from werkzeug.serving import make_server

OK = "ok"


@dataclass(frozen=True)
class Upload:
    """A file as it came in."""

    path: str
    credential: str
    product: str
    type: str
    part_type: str
    data: bytes


class MediaProvider:
    """Sends by an id that it does not have are refused, and so are links while `fetches_links` is False."""

    def __init__(self):
        self.uploads, self.sends, self.fetches = [], [], Counter()
        self.copies = set()
        self.files = {}  # name: (status, content type, bytes)
        self.fetches_links = True
        self.refuses_every_file = False
        self.unknown_copy = (131053, "Media upload error")
        self.upload_answers = []  # (status, JSON or bytes) for the next uploads; OK for a good one
        self.upload_delay = 0.0
        self._lock = threading.Lock()
        app = Flask(__name__)
        app.post("/<path:path>/media")(self._upload)
        app.post("/<path:path>/messages")(self._send)
        app.get("/files/<name>")(self._file)
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _upload(self, path):
        file, headers = request.files["file"], request.headers
        credential = headers.get("Authorization") or headers.get("D360-API-KEY")
        form = request.form
        upload = Upload(path, credential, form["messaging_product"], form["type"], file.mimetype, file.read())
        time.sleep(self.upload_delay)
        with self._lock:
            self.uploads.append(upload)
            status, answer = self.upload_answers.pop(0) if self.upload_answers else (200, OK)
            if answer == OK:
                answer = {"id": f"media-{len(self.uploads)}"}
                self.copies.add(answer["id"])
        return (answer if isinstance(answer, bytes) else jsonify(answer)), status

    def _send(self, path):
        fields = request.get_json()
        content = fields[fields["type"]]
        refused = self._refused(content)
        if refused:
            code, message = refused
            return jsonify({"error": {"code": code, "message": message}}), 400
        with self._lock:
            self.sends.append(content)
        return jsonify({"messages": [{"id": f"wamid.{len(self.sends)}"}]})

    def _refused(self, content):
        if self.refuses_every_file or ("link" in content and not self.fetches_links):
            return 131053, "Media upload error"
        if "id" in content and content["id"] not in self.copies:
            return self.unknown_copy
        return None

    def _file(self, name):
        self.fetches[name] += 1
        status, mime_type, data = self.files[name]
        return data, status, {"Content-Type": mime_type}

    def close(self):
        self._server.shutdown()
        self._server.server_close()
