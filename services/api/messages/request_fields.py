"""Reads the requests that send: single fields, and the whole payload of each kind of message.

The checks are written by hand because they run on the hot path: pydantic's models of the same bodies
(`services.api.schemas.sends`) only document them. A property test compares the two.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any, cast

import orjson

from services.api.field_names import check_body, shown
from services.connectors import untrusted_json
from services.connectors.limits import MAX_CAPTION
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError
from services.message import MAX_TEXT, Payload, is_user_id

#: Longest `?wait=`.
MAX_WAIT_SECONDS = 30.0
#: Characters in an Idempotency-Key.
MAX_IDEMPOTENCY_KEY = 255
#: Characters in a short text, such as a name or an id.
MAX_SHORT = 255
#: Characters in a reaction; the channel checks that it is one emoji.
MAX_REACTION = 64
#: Characters in the name of a template.
MAX_TEMPLATE = 512
#: Characters in the language code of a template.
MAX_LANGUAGE = 20
#: Characters in a variable of a template.
MAX_VARIABLE = 32_768
#: Items in the variables or components of a template, or in the mentions of a text.
MAX_PARTS = 100

#: The parameters in the address of a send.
QUERY = frozenset({"wait"})
_REPLY = frozenset({"phoneIndex", "userName", "quotedMessageId"})
#: The fields in the body of each kind of send. The former system's front-ends send audio with a caption.
NAMES: dict[str, frozenset[str]] = {
    "text": _REPLY | {"message", "mentions"},
    "template": frozenset({"phoneIndex", "userName", "templateName", "language", "variables", "components"}),
    "image": _REPLY | {"imageUrl", "caption"},
    "video": _REPLY | {"videoUrl", "caption"},
    "audio": _REPLY | {"audioUrl", "caption", "voice"},
    "document": _REPLY | {"documentUrl", "caption", "filename"},
    "sticker": _REPLY | {"stickerUrl"},
    "reaction": frozenset({"phoneIndex", "reaction"}),
    "read": frozenset({"phoneIndex", "typing"}),
    "edit": frozenset({"phoneIndex", "newMessage"}),
    "delete": frozenset({"phoneIndex", "deleteForEveryone"}),
}

Fields = dict[str, Any]

_NUMBER = re.compile(r"\+?([1-9][0-9]{4,14})(?:@c\.us)?", re.ASCII)
_GROUP_OR_HIDDEN = re.compile(r"[0-9]+(?:-[0-9]+)?@(?:g\.us|lid)", re.ASCII)
_CONTACT = re.compile(r"(.+)-(\+?[0-9]+|[A-Z]{2}\.[A-Za-z0-9]+)", re.ASCII)
_COMPANY = re.compile(rf"[^\x00-\x1f]{{1,{MAX_SHORT}}}")
_PHONE_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
#: Refused by Meta in a parameter of a template: "new-line/tab characters or more than 4 consecutive spaces".
_UNFIT_PARAMETER = re.compile(r"[\n\r\t]| {5}")
#: The components of a template whose parameters are parts of its text.
_TEXTUAL_COMPONENTS = ("header", "body")
#: Booleans as the text fields of a form write them.
_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}


def invalid(message: str) -> ApiError:
    """The 400 for a field that is wrong."""
    return ApiError(ErrorCode.INVALID_REQUEST, message)


def json_object(body: bytes, example: str = '{"message": "Hello"}') -> Fields:
    """The fields of a JSON body. Raises `ApiError` (invalid_json; invalid_request if a name is given twice)."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(ErrorCode.INVALID_JSON, f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ApiError(ErrorCode.INVALID_JSON, f"the body must be a JSON object, such as {example}")
    _check_unique(body, fields)
    return fields


class _Repeated(Exception):
    """An object has a name twice."""


def _check_unique(body: bytes, fields: dict[str, Any]) -> None:
    """Raise `ApiError` (invalid_request) if an object in the body has a name twice. `fields`: the parsed body.

    The parser keeps the last value and does not say so; other programs read another one. Each pair of a name and a
    value has one colon, which follows a quotation mark or a blank. So a body with no more colons than the parsed
    objects have names has none twice, which costs the hot path a fraction of a microsecond. Only if more colons look
    like those of pairs, the body is read once more.
    """
    colons = body.count(b":")
    if colons == len(fields):
        return
    names = len(fields) if body.count(b"{") == 1 else _count(fields)
    if names in (colons, _colons_of_pairs(body)):
        return
    try:
        json.loads(body.decode(), object_pairs_hook=_unique)
    except _Repeated as repeated:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{repeated} is given more than once in an object") from None
    except RecursionError:
        raise ApiError(ErrorCode.INVALID_JSON, "the body has too many levels") from None


def _colons_of_pairs(body: bytes) -> int:
    """The colons that may belong to pairs: at least as many as do."""
    return body.count(b'":') + body.count(b" :") + body.count(b"\n:") + body.count(b"\t:") + body.count(b"\r:")


def _count(fields: dict[str, Any]) -> int:
    """The names of all objects together."""
    found, rest = 0, [fields]
    while rest:
        value: Any = rest.pop()
        if type(value) is dict:
            found += len(value)
            value = value.values()
        rest += [each for each in value if type(each) in (dict, list)]
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Repeated(shown(name))
        found[name] = value
    return found


def body_fields(kind: str, body: bytes, example: str = '{"message": "Hello"}') -> Fields:
    """The fields of a JSON body of a kind of send. Raises `ApiError` (invalid_json, invalid_request)."""
    fields = json_object(body, example)
    check_names(kind, fields)
    return fields


def check_names(kind: str, fields: Fields) -> None:
    """Raise `ApiError` (invalid_request) if there is a field that the kind of send does not have."""
    if not fields.keys() <= NAMES[kind]:
        check_body(fields, NAMES[kind], QUERY)


def check_company(company_id: str) -> None:
    """Raise `ApiError` (invalid_request) for a name that no company can have."""
    if not _COMPANY.fullmatch(company_id):
        raise invalid(f"companyId must have 1 to {MAX_SHORT} characters, none of them a control character")


class InvalidChatId(ValueError):
    """Not a chat id in any known form."""


def normalise_chat_id(raw: str, company_id: str) -> str:
    """The one form of a chat's id: E.164 digits, `<id>@g.us` for a group, `<id>@lid` for a hidden number, or
    `<country>.<id>` for a user of Meta's with a hidden number.

    Accepts bare digits, a leading plus, `<digits>@c.us`, a group, lid or user id as it is, and the database's
    contact id `<companyId>-<digits or user id>`. Raises `InvalidChatId` with the reason otherwise.
    """
    if (_GROUP_OR_HIDDEN.fullmatch(raw) and len(raw) <= 64) or is_user_id(raw):
        return raw
    number = raw
    if "@" not in raw and (contact := _CONTACT.fullmatch(raw)):
        if contact[1] != company_id:
            raise InvalidChatId(f"the contact id {raw!r} belongs to another company than {company_id!r}")
        number = contact[2]
        if is_user_id(number):
            return number
    if match := _NUMBER.fullmatch(number):
        return match[1]
    raise InvalidChatId(
        "a chat id is a phone number in international form (60123456789, +60123456789, 60123456789@c.us), "
        "a group (…@g.us), a hidden number (…@lid) or <companyId>-<number>"
    )


def chat(chat_id: str, company_id: str) -> str:
    """The canonical form of a chat id. Raises `ApiError` (invalid_chat_id)."""
    try:
        return normalise_chat_id(chat_id, company_id)
    except InvalidChatId as error:
        raise ApiError(ErrorCode.INVALID_CHAT_ID, str(error)) from None


def required(fields: Fields, name: str, limit: int) -> str:
    """A text of 1 to `limit` characters."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise invalid(f"{name} is required and must be a string")
    if not value:
        raise invalid(f"{name} must not be empty")
    return _checked(name, value, limit)


def optional(fields: Fields, name: str, limit: int = MAX_SHORT) -> str | None:
    """A text of at most `limit` characters, or None if the field is missing."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid(f"{name} must be a string")
    return _checked(name, value, limit)


def _checked(name: str, value: str, limit: int) -> str:
    if len(value) > limit:
        raise ApiError(ErrorCode.TEXT_TOO_LONG, f"{name} has {len(value)} characters, at most {limit} are allowed")
    if "\0" in value:
        raise invalid(f"{name} must not contain a NUL character")
    return value


def given(fields: Fields, **limits: int) -> Payload:
    """The optional texts that are present and not empty. `limits`: characters by name of the field."""
    found = {name: value for name, limit in limits.items() if (value := optional(fields, name, limit))}
    return cast(Payload, found)


def flag(fields: Fields, name: str, default: bool = False) -> bool:
    """A boolean, as JSON or as a form writes it."""
    value = fields.get(name, default)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    raise invalid(f"{name} must be true or false")


def phone_index(fields: Fields) -> int:
    """The index of the company's bot, a number or a string of digits; 0 if the field is missing."""
    value = fields.get("phoneIndex", 0)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    if isinstance(value, str) and _PHONE_INDEX.fullmatch(value):
        return int(value)
    raise invalid('phoneIndex must be a whole number from 0, such as 0 or "0"')


def named_phone_index(fields: Fields) -> int | None:
    """The index of the bot, or None if the request names none."""
    return None if fields.get("phoneIndex") is None else phone_index(fields)


def idempotency_key(value: str | None) -> str | None:
    """The header Idempotency-Key, checked."""
    if value is not None and not (0 < len(value) <= MAX_IDEMPOTENCY_KEY and value.isprintable()):
        raise invalid(f"Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} printable characters")
    return value


def wait(value: str | None) -> float:
    """Seconds from `?wait=`; 0 without it."""
    if value is None:
        return 0.0
    if not _SECONDS.fullmatch(value) or float(value) > MAX_WAIT_SECONDS:
        raise invalid(f"wait must be a number of seconds from 0 to {MAX_WAIT_SECONDS:g}")
    return float(value)


def text(fields: Fields) -> Payload:
    """The payload of a text."""
    payload = given(fields, quotedMessageId=MAX_SHORT, userName=MAX_SHORT)
    payload["message"] = required(fields, "message", MAX_TEXT)
    if mentions := _list(fields, "mentions"):
        payload["mentions"] = [_person(value) for value in mentions]
    return payload


def template(fields: Fields) -> Payload:
    """The payload of a template: the variables of its body, or components in the provider's form."""
    payload: Payload = {
        "templateName": required(fields, "templateName", MAX_TEMPLATE),
        "language": required(fields, "language", MAX_LANGUAGE),
        "variables": [_variable(value) for value in _list(fields, "variables")],
    }
    if components := _list(fields, "components"):
        payload["components"] = [_component(value) for value in components]
    return payload | given(fields, userName=MAX_SHORT)


def captioned(fields: Fields) -> Payload:
    """The payload of a message with a file, without the file."""
    return given(fields, caption=MAX_CAPTION, quotedMessageId=MAX_SHORT, userName=MAX_SHORT)


def reaction(fields: Fields) -> str:
    """An emoji, or an empty text, which removes the reaction."""
    emoji = optional(fields, "reaction", MAX_REACTION)
    if emoji is None:
        raise invalid('reaction is required: an emoji, or "" to remove the reaction')
    return emoji


#: The kinds of messages that need no file, with the function that reads their payload.
PLAIN: dict[str, Callable[[Fields], Payload]] = {"text": text, "template": template}


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
    """The canonical form of a person's chat id: a phone number or a hidden one."""
    if not isinstance(value, str) or (person := chat(value, "")).endswith("@g.us"):
        raise invalid("mentions must be a list of phone numbers, such as 60123456789")
    return person


def _variable(value: Any) -> str:
    """A variable as text; front-ends also send numbers."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
        return str(value)
    text = optional({"variables": value}, "variables", MAX_VARIABLE) or ""
    _check_parameter("variables", text)
    return text


def _check_parameter(name: str, text: str) -> None:
    """Refuse what Meta refuses in a template's parameter (error 132018), after it has been accepted here."""
    if _UNFIT_PARAMETER.search(text):
        raise invalid(
            f"{name} must not contain line breaks, tabs or more than four spaces in a row, which Meta refuses in "
            "templates; write it in one line"
        )


def _component(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid('components must be a list of objects, such as {"type": "body", "parameters": […]}')
    try:
        untrusted_json.check(value)
    except ValueError as error:
        raise invalid(f"components {error}") from None
    kind = value.get("type")
    if isinstance(kind, str) and kind.lower() in _TEXTUAL_COMPONENTS:
        for parameter in untrusted_json.objects(value, "parameters"):
            _check_parameter("components", untrusted_json.text(parameter, "text") or "")
    return value
