"""Reading requests to the simulators."""

from typing import Any
from urllib.parse import urlsplit

from flask import abort, request

from services.sandbox.request_fields import read_object

#: Names by which a browser on this machine may call us: another one was made to point here.
_HOSTS = ("127.0.0.1", "localhost", "::1")


def sent_fields() -> dict[str, Any]:
    """The fields of a form or of a JSON object, by its content, not its declared type. Raises `GraphError` 100."""
    if request.mimetype == "multipart/form-data":
        return request.form.to_dict()
    body = request.get_data()
    return read_object(body) if body.lstrip()[:1] in (b"{", b"[") else request.form.to_dict()


def refuse_strangers() -> None:
    """A page of another site must not speak here through somebody's browser."""
    origin = request.headers.get("Origin")
    if urlsplit(request.host_url).hostname not in _HOSTS or (origin and urlsplit(origin).netloc != request.host):
        abort(403, "the sandbox takes no requests of other sites")
