"""What each kind of message says: from the fields of a request to the payload that is stored."""

from collections.abc import Callable
from typing import Any

from services.api.messages.request_fields import Fields, chat, given, invalid, optional, required
from services.message import MAX_TEXT, Payload

#: Characters of a caption, of a template's name, of its language and of each of its variables, at most.
MAX_CAPTION, MAX_TEMPLATE, MAX_LANGUAGE, MAX_VARIABLE = 1024, 512, 20, 32_768
#: Variables and components of a template, at most.
MAX_PARTS = 100


def text(fields: Fields) -> Payload:
    """A text, perhaps one that replies to a message or mentions people."""
    payload = given(fields, quotedMessageId=255, userName=255)
    payload["message"] = required(fields, "message", MAX_TEXT)
    if mentions := _list(fields, "mentions"):
        payload["mentions"] = [_person(value) for value in mentions]
    return payload


def template(fields: Fields) -> Payload:
    """A template with the variables of its body, or with components as the provider has them."""
    payload: Payload = {
        "templateName": required(fields, "templateName", MAX_TEMPLATE),
        "language": required(fields, "language", MAX_LANGUAGE),
        "variables": [_variable(value) for value in _list(fields, "variables")],
    }
    if components := _list(fields, "components"):
        payload["components"] = [_component(value) for value in components]
    return payload | given(fields, userName=255)


def captioned(fields: Fields) -> Payload:
    """What may be said with a file of any kind."""
    return given(fields, caption=MAX_CAPTION, quotedMessageId=255, userName=255)


def _list(fields: Fields, name: str) -> list[Any]:
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(f"{name} must be a list")
    if len(value) > MAX_PARTS:
        raise invalid(f"{name} has {len(value)} items, at most {MAX_PARTS} are allowed")
    return value


def _person(value: Any) -> str:
    """A number, or a hidden one; what is said before the @ is the chat's form of it."""
    if not isinstance(value, str) or (person := chat(value, "")).endswith("@g.us"):
        raise invalid("mentions must be a list of phone numbers, such as 60123456789")
    return person


def _variable(value: Any) -> str:
    """A variable as text; front-ends give numbers as they are."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return optional({"variables": value}, "variables", MAX_VARIABLE) or ""


def _component(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid('components must be a list of objects, such as {"type": "body", "parameters": […]}')
    if _has_nul(value):
        raise invalid("components must not contain a NUL character")
    return value


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(each) for pair in value.items() for each in pair)
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


#: The kinds that are said with JSON alone.
PLAIN: dict[str, Callable[[Fields], Payload]] = {"text": text, "template": template}
