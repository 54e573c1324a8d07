"""What the answers of Meta and 360dialog say, whichever of their shapes they have."""

import re
from typing import Any

import orjson

from services.connectors.base import Refusal
from services.connectors.meta.translation.errors import MAX_REASON, MetaError, classify, plain, read_error
from services.message import Held, Rejected, Retry, Scope, Unavailable

#: Bytes of a strange answer that are shown.
_SHOWN = 200
#: Seconds for which a number waits whose provider has had too many calls without saying for how long.
_TOO_MANY = 10
#: 360dialog answers 400 to all of these; only its words tell them apart.
_RATE = re.compile(r"\brate\b|too many|throttl|(request|message|messaging|daily|hourly)s? limit", re.IGNORECASE)
_CLOSED = re.compile(r"disabled|deactivated|inactive|suspended|paid|payment|billing|invoice|balance", re.IGNORECASE)


def read(body: bytes) -> Any:
    """The JSON of an answer; None where it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def field(value: Any, name: str) -> Any:
    """What an object has under a name; None where it is no object."""
    return value.get(name) if isinstance(value, dict) else None


def error_of(answer: Any) -> MetaError | None:
    """The error that an answer brings in Graph's form."""
    return read_error(field(answer, "error"))


def refusal(status: int, body: bytes) -> Refusal | None:
    """Why nothing was done; None where the answer does not say, so that it may have been."""
    answer = read(body)
    if error := error_of(answer):
        return classify(error.code, error.message)
    if isinstance(meta := field(answer, "meta"), dict) and (found := _dialog360(status, meta)):
        return found
    if status == 429:
        return _too_many("http_429", shown(status, body))
    if status == 503:  # "the server is currently unable to handle the request" (RFC 9110, 15.6.4), so it did not
        return Unavailable(outage(status), f"the provider serves nobody ({shown(status, body)})", chargeable=True)
    if 300 <= status < 500:
        # A proxy or a wrong address; or a filter that does not like this one message.
        advice = "not an answer of the API: check META_GRAPH_URL or DIALOG360_URL, and what is between it and us"
        return Unavailable(outage(status), f"{advice} ({shown(status, body)})", chargeable=True)
    return None


def outage(status: int) -> str:
    """The code of an outage that shows in answers of this HTTP status that are not the API's."""
    return f"http_{status}"


def shown(status: int, body: bytes) -> str:
    """The beginning of an answer that makes no sense."""
    return plain(f"HTTP {status}: {body[:_SHOWN].decode(errors='replace')}")


def _dialog360(status: int, meta: dict[str, Any]) -> Refusal | None:
    """360dialog's own refusals, which have a status and a sentence instead of a code."""
    said = _either(meta, "httpCode", "http_code")
    status = said if isinstance(said, int) else status
    words = _either(meta, "developerMessage", "developer_message")
    reason = plain(words)[:MAX_REASON] if isinstance(words, str) else ""
    reason = reason or f"HTTP {status} without a reason"
    code = f"360dialog_{status}"
    match status:
        case 401:
            return Held(code, f"{reason}; enter a new API key for this bot")
        case 403 | 404:
            return Held(code, f"{reason}; check DIALOG360_URL and what the API key may do")
        case 429:
            return _too_many(code, reason)
        case 400 if _RATE.search(reason):
            return _too_many(code, reason)
        case 400 if _CLOSED.search(reason):
            return Held(code, f"{reason}; put the number right in the 360dialog Hub")
        case 400:
            return Rejected(code, reason)
    return None


def _either(meta: dict[str, Any], *names: str) -> Any:
    """The names are seen in both spellings."""
    return next((meta[name] for name in names if name in meta), None)


def _too_many(code: str, reason: str) -> Retry:
    return Retry(code, reason, after=_TOO_MANY, scope=Scope.BOT, slower=True, counted=False)
