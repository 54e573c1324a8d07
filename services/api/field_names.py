"""Fields and parameters that a request has although nobody reads them: it is refused, never half obeyed.

The models of a route say what it reads. The error for a misspelt field contains the nearest name.
"""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import NoReturn
from urllib.parse import parse_qsl

from flask import Flask, Request

from services.api.resource import Operation, Resource
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError

#: Characters of a name that an error repeats.
MAX_SHOWN_NAME = 60
#: Parameters in a query, at most.
MAX_PARAMETERS = 50
#: How alike an unknown name and a known one are so that the known one is suggested; 1 means equal.
SIMILARITY = 0.6


def check_body(names: Iterable[str], known: Collection[str], query: Collection[str] = ()) -> None:
    """Raise `ApiError` (invalid_request) for a field that is not known. `query`: the names in the route's query."""
    for name in names:
        if name not in known:
            _refuse(name, known, "a field of this request", "add it to the address, as ?{0}=" if name in query else "")


def parameters(query: bytes, known: Collection[str], body: Collection[str] = ()) -> dict[str, str]:
    """The parameters of a query. `body`: the fields of the route's body.

    Raises `ApiError` (invalid_request) for one that is not known, or given twice.
    """
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise ApiError(ErrorCode.INVALID_REQUEST, "the query of the address is not UTF-8") from None
    except ValueError:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"the query has more than {MAX_PARAMETERS} parameters") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            _refuse(name, known, "a parameter of this address", "put it into the body" if name in body else "")
        if name in found:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{name} is given more than once in the address")
        found[name] = value
    return found


def shown(name: str) -> str:
    """A name of a request as an error repeats it."""
    return "".join(each if each.isprintable() else "?" for each in name[:MAX_SHOWN_NAME]) or '""'


def _refuse(name: str, known: Collection[str], what: str, instead: str) -> NoReturn:
    if instead:
        advice = instead.format(shown(name))
    elif near := nearest(name, known):
        advice = f"did you mean {near}?"
    else:
        advice = f"there are: {', '.join(sorted(known))}" if known else "there are none"
    raise ApiError(ErrorCode.INVALID_REQUEST, f"{shown(name)} is not {what}; {advice}")


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that looks most like this one, if any does. Case, `_` and `-` make no difference."""
    by_plain = {_plain(each): each for each in known}
    found = get_close_matches(_plain(name[:MAX_SHOWN_NAME]), by_plain, 1, SIMILARITY)
    return by_plain[found[0]] if found else None


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def of_request(app: Flask, request: Request) -> Operation | None:
    """The names that the route of a request reads; None if it is not a route of a resource."""
    resource = app.blueprints.get(request.blueprint or "")
    if not isinstance(resource, Resource) or request.url_rule is None:
        return None
    return resource.operation(request.url_rule.rule, "get" if request.method == "HEAD" else request.method.lower())


def check_request(app: Flask, request: Request) -> None:
    """Check a request's query, and that it has no body if its route reads none. Raises `ApiError`."""
    operation = of_request(app, request)
    if operation is None:
        return
    parameters(request.query_string, operation.query, operation.body or ())
    if operation.body is None and (body := request.get_data().strip()) not in (b"", b"{}", b"null"):
        beginning = body[:MAX_SHOWN_NAME].decode(errors="replace")
        message = f"this request has no body; leave it out, or send {{}}. The body begins with {beginning!r}"
        raise ApiError(ErrorCode.INVALID_REQUEST, message)
