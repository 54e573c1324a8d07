"""Names that occur more than once in one JSON object of a request: of their values, programs read different ones.

The parser keeps the last value and does not say so. Each pair of a name and a value has one colon, which follows a
quotation mark or a blank. So a body with no more colons than the parsed objects have names has none twice, which costs
the hot path a fraction of a microsecond. Only if more colons look like those of pairs, the body is read once more.
"""

import json
from typing import Any

from services.api.field_names import shown
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError


class _Repeated(Exception):
    """An object has a name twice."""


def check(body: bytes, fields: dict[str, Any]) -> None:
    """Raise `ApiError` (invalid_request) if an object in the body has a name twice. `fields`: the parsed body."""
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
