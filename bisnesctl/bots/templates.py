"""Message templates of a number: those that its provider approved, with the values that a message needs for them.

Source: Cloud API, "Message templates", "Template components". A message names the template, its language and the values
as components. `components` makes them; `preview` shows the text that the customer gets.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bisnesctl import encryption
from bisnesctl.bots.graph_api import Dialog360, JsonObject, as_objects
from bisnesctl.bots.provider_queries import graph_of
from bisnesctl.bots.store import StoredBot
from bisnesctl.errors import UsageError
from bisnesctl.settings import Settings

#: The formats of a header with a file.
FILES = ("IMAGE", "VIDEO", "DOCUMENT")
#: The values of a header with a place.
LOCATION_FIELDS = ("latitude", "longitude", "name", "address")
# Kinds of buttons that need no value.
_PLAIN_BUTTONS = ("QUICK_REPLY", "PHONE_NUMBER", "VOICE_CALL", "FLOW")
_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class TemplateField:
    """A value that a message needs."""

    #: Such as `body.1`, `header.file` or `button.0`.
    key: str
    #: The part of the template: header, body or button.
    part: str
    #: The name or number of the variable, or the kind of the value: a kind of file, a part of a place.
    name: str
    #: The value with which the template was submitted.
    example: str = ""
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Button:
    """A button of a template."""

    kind: str
    text: str
    #: The address that it opens, perhaps with a variable.
    url: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """An approved template in one language."""

    name: str
    language: str
    category: str
    #: TEXT, IMAGE, VIDEO, DOCUMENT or LOCATION; empty: it has no header.
    header_format: str
    header: str
    body: str
    footer: str
    buttons: tuple[Button, ...]
    fields: tuple[TemplateField, ...]
    is_named: bool = False
    #: Parts whose values only a call of the API can state, such as CAROUSEL.
    unsupported: tuple[str, ...] = ()


def approved(settings: Settings, bot: StoredBot) -> list[Template]:
    """The templates of a number, by name and language.

    Raises `UsageError` if the number can have none, `EncryptionError`, or a `ProviderError`.
    """
    if bot.type == "wwebjs":
        raise UsageError("WhatsApp Web has no templates: a text can be sent at any time")
    token = encryption.decrypt(settings.decryption_keys, bot.sealed)
    found: Iterable[JsonObject]
    if bot.type == "360dialog":
        found = Dialog360(settings.dialog360_base, token).templates()
    elif bot.waba_id:
        found = graph_of(settings, token).templates(bot.waba_id)
    else:
        command = f"bisnesctl bots verify --company {bot.company} --phone {bot.phone}"
        raise UsageError(f"the account of the number is not known: `{command}`")
    usable = [read(each) for each in found if str(each.get("status", "")).upper() == "APPROVED"]
    return sorted(usable, key=lambda each: (each.name, each.language))


def read(found: JsonObject) -> Template:
    """A template as the provider describes it."""
    parts = {str(each.get("type", "")).upper(): each for each in as_objects(found.get("components"))}
    header, body, footer, buttons = (parts.pop(name, {}) for name in ("HEADER", "BODY", "FOOTER", "BUTTONS"))
    header_format = _text(header, "format").upper() or ("TEXT" if header else "")
    known = tuple(_button(each) for each in as_objects(buttons.get("buttons")))
    variables = [*_variables(_text(header, "text")), *_variables(_text(body, "text"))]
    fields = (*_header_fields(header_format, header), *_text_fields("body", body), *_button_fields(known, buttons))
    strange = [each.kind for each in known if each.kind not in (*_PLAIN_BUTTONS, "URL", "COPY_CODE", "OTP")]
    if header_format not in ("", "TEXT", "LOCATION", *FILES):
        strange.append(header_format)
    return Template(
        _text(found, "name"), _text(found, "language"), _text(found, "category").upper(), header_format,
        _text(header, "text"), _text(body, "text"), _text(footer, "text"), known, fields,
        any(not each.isdigit() for each in variables), tuple(dict.fromkeys([*parts, *strange])),
    )  # fmt: skip


def components(template: Template, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """The components of a message. Raises `UsageError` with the fields whose values are missing."""
    missing = [each.name for each in template.fields if each.is_required and not values.get(each.key, "").strip()]
    if missing:
        raise UsageError(f"a value is missing: {', '.join(missing)}")
    return [each for each in (_header(template, values), _text_component(template, "body", values)) if each] + [
        _button_component(field, template.buttons[int(field.key.split(".")[1])], values[field.key].strip())
        for field in template.fields
        if field.part == "button"
    ]


def preview(template: Template, values: Mapping[str, str]) -> dict[str, str]:
    """The texts of header and body that the customer sees. A variable without a value stays as it is."""

    def replaced(part: str, text: str) -> str:
        return _VARIABLE.sub(lambda found: values.get(f"{part}.{found[1]}", "").strip() or found[0], text)

    return {"header": replaced("header", template.header), "body": replaced("body", template.body)}


def _header(template: Template, values: Mapping[str, str]) -> dict[str, Any] | None:
    if template.header_format in FILES:
        kind = template.header_format.lower()
        content = {"link": values["header.file"].strip()}
        return {"type": "header", "parameters": [{"type": kind, kind: content}]}
    if template.header_format == "LOCATION":
        place = {name: values.get(f"header.{name}", "").strip() for name in LOCATION_FIELDS}
        return {"type": "header", "parameters": [{"type": "location", "location": place}]}
    return _text_component(template, "header", values)


def _text_component(template: Template, part: str, values: Mapping[str, str]) -> dict[str, Any] | None:
    parameters = [
        ({"parameter_name": field.name} if template.is_named else {})
        | {"type": "text", "text": values[field.key].strip()}
        for field in template.fields
        if field.part == part
    ]
    return {"type": part, "parameters": parameters} if parameters else None


def _button_component(field: TemplateField, button: Button, value: str) -> dict[str, Any]:
    component = {"type": "button", "index": field.key.split(".")[1]}
    if button.kind == "COPY_CODE":
        parameter = {"type": "coupon_code", "coupon_code": value}
        return component | {"sub_type": "copy_code", "parameters": [parameter]}
    return component | {"sub_type": "url", "parameters": [{"type": "text", "text": value}]}


def _button(found: JsonObject) -> Button:
    return Button(_text(found, "type").upper(), _text(found, "text"), _text(found, "url"))


def _header_fields(header_format: str, header: JsonObject) -> Iterator[TemplateField]:
    if header_format in FILES:
        yield TemplateField("header.file", "file", header_format.lower())
    elif header_format == "LOCATION":
        for name in LOCATION_FIELDS:
            yield TemplateField(f"header.{name}", "location", name, "", name in ("latitude", "longitude"))
    else:
        yield from _text_fields("header", header)


def _text_fields(part: str, found: JsonObject) -> Iterator[TemplateField]:
    names = _variables(_text(found, "text"))
    examples = _examples(part, found, names)
    for name in names:
        yield TemplateField(f"{part}.{name}", part, name, examples.get(name, ""))


def _button_fields(buttons: tuple[Button, ...], found: JsonObject) -> Iterator[TemplateField]:
    described = as_objects(found.get("buttons"))
    for place, button in enumerate(buttons):
        examples = described[place].get("example")
        example = examples[0] if isinstance(examples, list) and examples else examples
        # The one-time code of an authentication template is the value of its button too.
        if button.kind in ("COPY_CODE", "OTP") or (button.kind == "URL" and _variables(button.url + button.text)):
            yield TemplateField(f"button.{place}", "button", button.text or button.kind, _word(example))


def _examples(part: str, found: JsonObject, names: list[str]) -> dict[str, str]:
    example = found.get("example")
    if not isinstance(example, dict):
        return {}
    if named := as_objects(example.get(f"{part}_text_named_params")):
        return {_text(each, "param_name"): _text(each, "example") for each in named}
    given = example.get(f"{part}_text")
    if isinstance(given, list) and given and isinstance(given[0], list):
        given = given[0]
    return dict(zip(names, map(_word, given), strict=False)) if isinstance(given, list) else {}


def _variables(text: str) -> list[str]:
    """The variables of a text, each once; numbers in their order, in which a message has the values."""
    found = list(dict.fromkeys(_VARIABLE.findall(text)))
    return sorted(found, key=int) if all(each.isdecimal() for each in found) else found


def _text(found: JsonObject, name: str) -> str:
    return _word(found.get(name))


def _word(value: Any) -> str:
    return value.replace("\0", "") if isinstance(value, str) else ""
