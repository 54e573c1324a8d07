"""Requests to the simulators' own routes: their fields, their errors, and protection against other sites' pages."""

from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
from flask import Blueprint, abort, request
from pydantic import BeforeValidator, ValidationError
from werkzeug.exceptions import BadRequest

#: Host names by which a browser on this machine may call us. Any other name was made to point here (DNS rebinding).
_HOSTS = ("127.0.0.1", "localhost", "::1")


def _parsed(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


#: A field of any JSON type. A form sends it as text.
JsonField = Annotated[Any, BeforeValidator(_parsed)]


def sent_fields() -> dict[str, Any]:
    """The fields of a form or of a JSON object with any Content-Type. Raises `BadRequest` for invalid JSON."""
    if request.mimetype == "multipart/form-data":
        return request.form.to_dict()
    body = request.get_data()
    if body.lstrip()[:1] not in (b"{", b"["):
        return request.form.to_dict()
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    return fields if isinstance(fields, dict) else {}


def without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that have a value: browsers send the inputs that were left empty, too."""
    return {name: value for name, value in fields.items() if value != ""}


def refuse_other_sites() -> None:
    """Prevent pages of other sites from calling the simulator through somebody's browser."""
    origin = request.headers.get("Origin")
    if urlsplit(request.host_url).hostname not in _HOSTS or (origin and urlsplit(origin).netloc != request.host):
        abort(403, "the sandbox refuses requests from other sites")


def control_blueprint(name: str) -> Blueprint:
    """A blueprint for controls. None needs a key: they listen on loopback."""
    control = Blueprint(name, __name__)
    control.register_error_handler(ValidationError, lambda error: refusal("; ".join(map(_described, error.errors()))))
    control.register_error_handler(BadRequest, lambda error: refusal(error.description or error.name))
    return control


def refusal(message: str, code: str = "invalid_request", http: int = 400) -> tuple[dict[str, Any], int]:
    """The body and the status with which a control refuses a request."""
    return {"success": False, "error": message, "code": code}, http


def _described(error: Any) -> str:
    return ": ".join([*map(str, error["loc"]), error["msg"]])
