"""Answers that are never sent: a simulator closes the connection of the request instead."""

from werkzeug.wrappers import Response

#: The header of such an answer, by which the server recognises it.
HEADER = "x-sandbox-cut"


def cut() -> Response:
    """Such an answer."""
    return Response(headers={HEADER: "1"})
