"""Between the simulator and HTTP: what a request brings, and how an answer leaves."""

import socket
import time
from typing import Any
from urllib.parse import urlsplit

from flask import abort, jsonify, request, send_file
from werkzeug.wrappers import Response

from services.sandbox.meta.media import MOST
from services.sandbox.meta.simulator import Answer
from services.sandbox.request_fields import read_object

#: Bytes of an upload: the biggest file and the form around it.
UPLOAD_LIMIT = MOST + (1 << 20)
#: Names by which a browser on this machine may call us: another one was made to point here.
_HOSTS = ("127.0.0.1", "localhost", "::1")


def answer(found: Answer) -> Response:
    """Send an answer when its time has come, or cut the connection."""
    time.sleep(found.delay)
    if found.cut:
        _cut()
    if found.file is not None and found.path is not None:
        return send_file(found.path.absolute(), mimetype=found.file.mime_type)
    response = jsonify(found.body)
    response.status_code = found.http
    return response


def _cut() -> None:
    """Close the connection under the answer, which then has nowhere to go."""
    connection: socket.socket = request.environ["gunicorn.socket"]
    connection.shutdown(socket.SHUT_RDWR)


def sent_fields() -> dict[str, Any]:
    """The fields of a form or of a JSON object, whatever the request calls it. Raises `GraphError` 100."""
    if request.mimetype == "multipart/form-data":
        return request.form.to_dict()
    body = request.get_data()
    return read_object(body) if body.lstrip()[:1] in (b"{", b"[") else request.form.to_dict()


def refuse_strangers() -> None:
    """A page of another site must not speak here through somebody's browser."""
    origin = request.headers.get("Origin")
    if urlsplit(request.host_url).hostname not in _HOSTS or (origin and urlsplit(origin).netloc != request.host):
        abort(403, "the sandbox takes no requests of other sites")
