"""Between the simulator and HTTP: what a request brings, and how an answer leaves."""

import socket
import time

from flask import jsonify, request, send_file
from werkzeug.wrappers import Response

from services.sandbox.meta.media import MOST
from services.sandbox.meta.simulator import Answer

#: Bytes of an upload: the biggest file and the form around it.
UPLOAD_LIMIT = MOST + (1 << 20)


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
