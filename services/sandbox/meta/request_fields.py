"""Reads the fields of requests to the Graph API. A bad field raises the error that the API answers with."""

import secrets
from collections.abc import Callable
from typing import Any

import orjson

from services.sandbox.meta.errors import ERRORS, UNDOCUMENTED


class GraphError(Exception):
    """An error of the Graph API. Its HTTP status is the documented status of its code, unless `http` is given."""

    def __init__(self, code: int, details: str, http: int | None = None, subcode: int | None = None) -> None:
        super().__init__(details)
        documented = ERRORS.get(code, UNDOCUMENTED)
        self.code = code
        self.details = details
        self.subcode = subcode
        self.http = http or documented.http
        self.title = documented.title

    def envelope(self) -> dict[str, Any]:
        """The answer's body."""
        subcode = {} if self.subcode is None else {"error_subcode": self.subcode}
        return {
            "error": {
                "message": f"(#{self.code}) {self.title}",
                "type": "OAuthException",
                "code": self.code,
                **subcode,
                "error_data": {"messaging_product": "whatsapp", "details": self.details},
                "fbtrace_id": secrets.token_urlsafe(8),
            }
        }


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; {} for other kinds of JSON. Raises `GraphError` 100 for invalid JSON."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise GraphError(100, f"the body is not JSON: {error}") from None
    return fields if isinstance(fields, dict) else {}


def check_product(fields: dict[str, Any]) -> None:
    """Require `messaging_product`, as all requests have it. Raises `GraphError` 100."""
    if fields.get("messaging_product") != "whatsapp":
        raise GraphError(100, "messaging_product is required and must be whatsapp")


def required(fields: dict[str, Any], name: str, max_characters: int | None = None) -> str:
    """A text that is required and not empty."""
    value = fields.get(name)
    if value is None or value == "":
        raise GraphError(131008, f"{name} is required")
    if not isinstance(value, str):
        raise GraphError(131009, f"{name} must be a string")
    if max_characters is not None and len(value) > max_characters:
        raise GraphError(100, f"{name} must have at most {max_characters} characters, it has {len(value)}")
    return value


def optional(fields: dict[str, Any], name: str, is_valid: Callable[[Any], bool], requirement: str) -> Any:
    """A value that may be missing. `requirement` ends the sentence "name must be …"."""
    value = fields.get(name)
    if value is not None and not is_valid(value):
        raise GraphError(131009, f"{name} must be {requirement}")
    return value


def optional_text(fields: dict[str, Any], name: str, max_characters: int) -> str:
    """A text that may be missing; then it is ''."""
    return required(fields, name, max_characters) if fields.get(name) is not None else ""


def required_object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """An object that is required."""
    value = fields.get(name)
    if value is None:
        raise GraphError(131008, f"{name} is required")
    if not isinstance(value, dict):
        raise GraphError(131009, f"{name} must be an object")
    return value


def required_list(fields: dict[str, Any], name: str, max_elements: int) -> list[dict[str, Any]]:
    """A list of objects that is required and not empty."""
    value = fields.get(name)
    if value is None or value == []:
        raise GraphError(131008, f"{name} is required")
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise GraphError(131009, f"{name} must be a list of objects")
    if len(value) > max_elements:
        raise GraphError(131009, f"{name} must have at most {max_elements} elements, it has {len(value)}")
    return value


def only(fields: dict[str, Any], *names: str) -> None:
    """Refuse parameters that the API does not know."""
    if unknown := sorted(set(fields) - set(names)):
        raise GraphError(100, f"{unknown[0]} is not a parameter here; there are: {', '.join(names)}")
