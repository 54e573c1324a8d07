"""The fields of a request, however they came: read one by one, each refusal naming the field and what it may be."""

import re
from typing import Any, cast

import orjson

from services.http_server.errors import ApiError
from services.message import Payload, is_user_id

#: Seconds that `?wait=` may ask for.
MAX_WAIT = 30.0
#: Characters in an Idempotency-Key.
MAX_IDEMPOTENCY_KEY = 255
#: Characters in a name, an id and whatever else is short.
MAX_SHORT = 255

Fields = dict[str, Any]

_NUMBER = re.compile(r"\+?([1-9][0-9]{4,14})(?:@c\.us)?", re.ASCII)
_GROUP_OR_HIDDEN = re.compile(r"[0-9]+(?:-[0-9]+)?@(?:g\.us|lid)", re.ASCII)
_CONTACT = re.compile(r"(.+)-(\+?[0-9]+|[A-Z]{2}\.[A-Za-z0-9]+)", re.ASCII)
_PHONE_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
#: How a form, which knows nothing but text, says yes and no.
_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}


def invalid(message: str) -> ApiError:
    """The 400 for a field that is wrong."""
    return ApiError(400, "invalid_request", message)


def json_object(body: bytes, example: str = '{"message": "Hello"}') -> Fields:
    """The fields of a JSON body. Raises `ApiError` (invalid_json)."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "invalid_json", f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "invalid_json", f"the body must be a JSON object, such as {example}")
    return fields


def chat(chat_id: str, company_id: str) -> str:
    """The one form of a chat's id. Raises `ApiError` (invalid_chat_id)."""
    try:
        return normalise_chat_id(chat_id, company_id)
    except InvalidChatId as error:
        raise ApiError(400, "invalid_chat_id", str(error)) from None


def required(fields: Fields, name: str, limit: int) -> str:
    """A text of 1 to `limit` characters."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise invalid(f"{name} is required and must be a string")
    if not value:
        raise invalid(f"{name} must not be empty")
    return _checked(name, value, limit)


def optional(fields: Fields, name: str, limit: int = MAX_SHORT) -> str | None:
    """A text of at most `limit` characters, or None where there is none."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid(f"{name} must be a string")
    return _checked(name, value, limit)


def _checked(name: str, value: str, limit: int) -> str:
    if len(value) > limit:
        raise ApiError(400, "text_too_long", f"{name} has {len(value)} characters, at most {limit} are allowed")
    if "\0" in value:
        raise invalid(f"{name} must not contain a NUL character")
    return value


def given(fields: Fields, **limits: int) -> Payload:
    """Those of the optional texts that say anything; their limits by name."""
    found = {name: value for name, limit in limits.items() if (value := optional(fields, name, limit))}
    return cast(Payload, found)


def flag(fields: Fields, name: str, default: bool = False) -> bool:
    """Yes or no, as JSON or as a form writes it."""
    value = fields.get(name, default)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    raise invalid(f"{name} must be true or false")


def phone_index(fields: Fields) -> int:
    """Which of the company's numbers is meant, a number or one as a string; the first where none is named."""
    value = fields.get("phoneIndex", 0)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    if isinstance(value, str) and _PHONE_INDEX.fullmatch(value):
        return int(value)
    raise invalid('phoneIndex must be a whole number from 0, such as 0 or "0"')


def named_phone_index(fields: Fields) -> int | None:
    """The number that is named, or None where none is."""
    return None if fields.get("phoneIndex") is None else phone_index(fields)


def idempotency_key(value: str | None) -> str | None:
    """The header as it is, once it is checked."""
    if value is not None and not (0 < len(value) <= MAX_IDEMPOTENCY_KEY and value.isprintable()):
        raise invalid(f"Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} printable characters")
    return value


def wait(value: str | None) -> float:
    """Seconds from `?wait=`; 0 without it."""
    if value is None:
        return 0.0
    if not _SECONDS.fullmatch(value) or float(value) > MAX_WAIT:
        raise invalid(f"wait must be a number of seconds from 0 to {MAX_WAIT:g}")
    return float(value)


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
