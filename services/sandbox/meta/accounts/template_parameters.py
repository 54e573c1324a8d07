"""The check of a message that uses a template (Cloud API, "Message templates", "Error codes").

The codes and the words of `details` are those with which the real API answers.
"""

import re
from dataclasses import dataclass
from typing import Any

from services.sandbox.meta.accounts.templates import MEDIA_HEADERS, Template, find, replaced, variables
from services.sandbox.meta.message_kinds import Attachment, media_object
from services.sandbox.meta.registry import Registry
from services.sandbox.meta.request_fields import GraphError, required, required_list, required_object

MAX_HEADER_CHARACTERS = 60
#: Limit of the body with its values, if the template has a header or buttons.
MAX_BODY_CHARACTERS = 1024
#: Limit of the body with its values, if it is the whole template.
MAX_BODY_ALONE_CHARACTERS = 32_768

_COMPONENTS = ("header", "body", "button", "footer", "carousel", "limited_time_offer", "order_status")
_MEDIA = ("image", "video", "document")
_TYPES = ("text", "currency", "date_time", *_MEDIA, "location", "payload", "coupon_code", "action")
_FORBIDDEN_SPACE = re.compile(r"[\n\r\t]| {5,}")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filled:
    """The text and the file that the recipient sees."""

    text: str
    attachment: Attachment | None = None  # the header's file


def fill(registry: Registry, fields: Json) -> Filled:
    """Check a message's `template` object. Raises the `GraphError` that the API answers with, or those of `find`."""
    name, language = required(fields, "name", 512), required_object(fields, "language")
    template = find(registry, name, required(language, "code"))
    components = required_list(fields, "components", 20) if fields.get("components") else []
    for component in components:
        if required(component, "type").lower() not in _COMPONENTS:
            raise GraphError(100, f"component type {component['type']} is not supported")
    header, attachment = _header(template, _parameters(components, "header"))
    body = _text(template, template.body, _parameters(components, "body"), "body")
    _check_length(template, header, body)
    _check_buttons(template, _of_type(components, "button"))
    return Filled("\n".join(filter(None, (header, body))), attachment)


def _of_type(components: list[Json], kind: str) -> list[Json]:
    return [component for component in components if component["type"].lower() == kind]


def _parameters(components: list[Json], kind: str) -> list[Json]:
    found = [component for component in _of_type(components, kind) if component.get("parameters")]
    return [parameter for component in found for parameter in required_list(component, "parameters", 100)]


def _header(template: Template, parameters: list[Json]) -> tuple[str, Attachment | None]:
    """The header's text and file. Raises `GraphError` 132012 unless its format is the template's."""
    if template.header not in MEDIA_HEADERS:
        return _text(template, template.header, parameters, "header"), None
    received = _type(parameters[0]) if parameters else "unknown"
    if received.upper() != template.header or len(parameters) > 1:
        raise GraphError(132012, f"header: Format mismatch, expected {template.header}, received {received.upper()}")
    content = required_object(parameters[0], received)
    file = media_object(content, received, "filename").attachment if received in _MEDIA else None
    return f"[{received}]", file


def _text(template: Template, text: str, parameters: list[Json], component: str) -> str:
    """The text of a component with its values."""
    values = [_value(parameter, component) for parameter in parameters]
    names = variables(text)
    if len(names) != len(values):
        raise GraphError(
            132000,
            f"{component}: number of localizable_params ({len(values)}) does not match the expected number of params "
            f"({len(names)})",
        )
    given: list[Any] = [parameter.get("parameter_name") for parameter in parameters]
    if not template.is_named:
        return replaced(text, dict(zip(names, values, strict=True)))
    if not all(isinstance(name, str) and name for name in given):
        raise GraphError(100, "Parameter name is missing or empty")
    if set(given) != set(names):
        raise GraphError(132012, f"{component}: the template's parameters are named {', '.join(names)}")
    return replaced(text, dict(zip(given, values, strict=True)))


def _type(parameter: Json) -> str:
    kind = required(parameter, "type").lower()
    if kind not in _TYPES:
        raise GraphError(132012, f"a parameter has the unknown type {parameter['type']}")
    return kind


def _value(parameter: Json, component: str) -> str:
    """The text of a parameter."""
    kind = _type(parameter)
    if kind in ("currency", "date_time"):
        return required(required_object(parameter, kind), "fallback_value")
    if kind != "text":
        raise GraphError(132012, f"{component}: Format mismatch, expected TEXT, received {kind.upper()}")
    if parameter.get("text") is None:
        raise GraphError(100, "Parameter 'text' is mandatory for component parameter type 'text'")
    value = required(parameter, "text")
    if _FORBIDDEN_SPACE.search(value):
        raise GraphError(132018, "Param text cannot have new-line/tab characters or more than 4 consecutive spaces")
    return value


def _check_length(template: Template, header: str, body: str) -> None:
    alone = not template.header and not template.buttons
    limit = MAX_BODY_ALONE_CHARACTERS if alone else MAX_BODY_CHARACTERS
    if len(header) > MAX_HEADER_CHARACTERS or len(body) > limit:
        raise GraphError(132005, "Translated text too long")


def _check_buttons(template: Template, buttons: list[Json]) -> None:
    with_variables = {index for index, text in enumerate(template.buttons) if variables(text)}
    indexes = {_index(template, button): button for button in buttons}
    for index in sorted(with_variables - set(indexes)):
        raise GraphError(131008, f"buttons: Button at index {index} of type Url requires a parameter")
    for index, button in indexes.items():
        for parameter in required_list(button, "parameters", 10):
            if index in with_variables and _type(parameter) == "text":
                _value(parameter, f"button {index}")


def _index(template: Template, button: Json) -> int:
    index = str(button.get("index", "0"))
    if not index.isascii() or not index.isdigit() or int(index) >= len(template.buttons):
        raise GraphError(132000, f"the template has no button {index}")
    return int(index)
