"""Reading the fields of a request; what is wrong with one is refused with the code that the API has for it."""

import secrets
from collections.abc import Callable
from typing import Any

import orjson

from services.sandbox.errors import ERRORS, UNDOCUMENTED


class GraphError(Exception):
    """An error of the API; its HTTP status is the documented one of its code."""

    def __init__(self, code: int, details: str, http: int | None = None, subcode: int | None = None) -> None:
        super().__init__(details)
        documented = ERRORS.get(code, UNDOCUMENTED)
        self.code, self.details, self.subcode = code, details, subcode
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
    """The JSON object of a body; {} where it is another kind of JSON. Raises `GraphError` 100 where it is none."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise GraphError(100, f"the body is not JSON: {error}") from None
    return fields if isinstance(fields, dict) else {}


def check_product(fields: dict[str, Any]) -> None:
    """Every request names the product. Raises `GraphError` 100."""
    if fields.get("messaging_product") != "whatsapp":
        raise GraphError(100, "messaging_product is required and must be whatsapp")


def required(fields: dict[str, Any], name: str, most: int | None = None) -> str:
    """A text that must be there, of at most so many characters."""
    value = fields.get(name)
    if value is None or value == "":
        raise GraphError(131008, f"{name} is required")
    if not isinstance(value, str):
        raise GraphError(131009, f"{name} must be a string")
    if most is not None and len(value) > most:
        raise GraphError(100, f"{name} must have at most {most} characters, it has {len(value)}")
    return value


def optional(fields: dict[str, Any], name: str, is_good: Callable[[Any], bool], good: str) -> Any:
    """A value that may be missing; `good` says what it must be."""
    value = fields.get(name)
    if value is not None and not is_good(value):
        raise GraphError(131009, f"{name} must be {good}")
    return value


def optional_text(fields: dict[str, Any], name: str, most: int) -> str:
    """A text that may be missing, of at most so many characters."""
    return required(fields, name, most) if fields.get(name) is not None else ""


def required_object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """An object that must be there."""
    value = fields.get(name)
    if value is None:
        raise GraphError(131008, f"{name} is required")
    if not isinstance(value, dict):
        raise GraphError(131009, f"{name} must be an object")
    return value


def required_list(fields: dict[str, Any], name: str, most: int) -> list[dict[str, Any]]:
    """A list of objects that must be there, with at least one and at most so many."""
    value = fields.get(name)
    if value is None or value == []:
        raise GraphError(131008, f"{name} is required")
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise GraphError(131009, f"{name} must be a list of objects")
    if len(value) > most:
        raise GraphError(131009, f"{name} must have at most {most} elements, it has {len(value)}")
    return value


def only(fields: dict[str, Any], *names: str) -> None:
    """Refuse what the API does not know."""
    if odd := sorted(set(fields) - set(names)):
        raise GraphError(100, f"{odd[0]} is not a parameter here; there are: {', '.join(names)}")
