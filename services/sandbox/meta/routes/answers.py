"""Sends the simulator's answers over HTTP."""

import time

from flask import jsonify, send_file
from werkzeug.wrappers import Response

from services.sandbox.cut_connections import cut
from services.sandbox.meta.media import MAX_FILE_BYTES
from services.sandbox.meta.simulator import Answer

#: The biggest file, and the form around it.
MAX_UPLOAD_BYTES = MAX_FILE_BYTES + (1 << 20)


def respond(answer: Answer) -> Response:
    """Send an answer after its delay, or cut the connection."""
    time.sleep(answer.delay)
    if answer.cut:
        return cut()
    if answer.file is not None and answer.path is not None:
        return send_file(answer.path.absolute(), mimetype=answer.file.mime_type)
    response = jsonify(answer.body)
    response.status_code = answer.http
    return response
