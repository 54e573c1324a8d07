"""A provider for tests of uploads: accepts files and messages, and serves files to download."""

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from flask import Flask, jsonify, request
from werkzeug.serving import make_server

OK = "ok"


@dataclass(frozen=True)
class Upload:
    """A file that was uploaded."""

    path: str
    credential: str | None
    product: str
    type: str
    part_type: str
    data: bytes


class MediaProvider:
    """Refuses messages with unknown media ids, and messages with links while `fetches_links` is False."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.sends: list[dict[str, Any]] = []  # the media objects of accepted messages
        self.fetches: Counter[str] = Counter()  # downloads by name
        self.copies: set[str] = set()  # media ids
        self.files: dict[str, tuple[int, str, bytes]] = {}  # status, content type and bytes, by name
        self.fetches_links = True
        self.refuses_every_file = False
        self.unknown_copy = (131053, "Media upload error")
        self.upload_answers: list[tuple[int, Any]] = []  # (status, JSON or bytes) of the next uploads; OK: a media id
        self.upload_delay = 0.0
        self._lock = threading.Lock()
        app = Flask(__name__)
        app.post("/<path:path>/media")(self._upload)
        app.post("/<path:path>/messages")(self._send)
        app.get("/files/<name>")(self._file)
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _upload(self, path: str) -> Any:
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

    def _send(self, path: str) -> Any:
        fields = request.get_json()
        content = fields[fields["type"]]
        refused = self._refused(content)
        if refused:
            code, message = refused
            return jsonify({"error": {"code": code, "message": message}}), 400
        with self._lock:
            self.sends.append(content)
        return jsonify({"messages": [{"id": f"wamid.{len(self.sends)}"}]})

    def _refused(self, content: dict[str, Any]) -> tuple[int, str] | None:
        if self.refuses_every_file or ("link" in content and not self.fetches_links):
            return 131053, "Media upload error"
        if "id" in content and content["id"] not in self.copies:
            return self.unknown_copy
        return None

    def _file(self, name: str) -> Any:
        self.fetches[name] += 1
        status, mime_type, data = self.files[name]
        return data, status, {"Content-Type": mime_type}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
