"""The meaning of error answers of Meta and 360dialog for a message: the documented codes as data, the rest as rules.

Meta's errors are distinguished by `error.code` alone: Meta advises against relying on HTTP statuses (Cloud API
reference, "Error codes").
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from services.connector import Refusal
from services.message import Held, Rejected, Retry, Scope, Unavailable

#: The code with which Meta refuses a file, or a link that it could not fetch.
FILE_REFUSED = 131053
#: Maximum length of a reason, in characters; the rest of the provider's text is dropped.
MAX_REASON = 1000
#: How much of an answer that makes no sense is shown, in bytes.
MAX_SHOWN = 200
#: How long a bot waits after "too many calls" if the provider does not say.
TOO_MANY_CALLS_SECONDS = 10
#: The beginning of the codes of outages that show as HTTP statuses.
OUTAGE_PREFIX = "http_"
#: Anything in Meta's texts that looks like an access token.
_TOKEN = re.compile(r"\bEA[a-z0-9]{16,}|(?<=access token )\S{16,}|(?<=access token: )\S{16,}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Known:
    """A row of the table: known codes, their meaning, and the outcome, which still lacks its code and reason."""

    codes: Iterable[int]
    about: str
    outcome: Refusal
    advice: str = ""


_RETRY = Retry("", "")
_UNAVAILABLE = Unavailable("", "", chargeable=True)
_REJECTED = Rejected("", "")
_HELD = Held("", "")
_ACCOUNT_LIMIT = Retry("", "", after=300, scope=Scope.ACCOUNT, counted=False)
_BOT_LIMIT = replace(_ACCOUNT_LIMIT, scope=Scope.BOT)

_ROWS = (
    # Faults of Meta: nothing was sent, and the next message of the bot would fare no better.
    Known((1,), "unknown error of the API", replace(_UNAVAILABLE, attempts=2)),
    Known((2, 133004), "the service is temporarily unavailable", _UNAVAILABLE),
    Known((131000,), "something went wrong", replace(_UNAVAILABLE, attempts=3)),
    Known((131016,), "the service is overloaded", _UNAVAILABLE),
    Known((131057, 2494100), "the number is being upgraded", Unavailable("", "", after=60)),
    # Certainly not sent, worth another attempt.
    Known((130429,), "too many messages from this number", replace(_BOT_LIMIT, after=5, slower=True)),
    # "Wait 4^X seconds" (Cloud API, "Pair rate limits"): 1, 4, 16 and 64, for this chat alone.
    Known((131056,), "too many messages to this recipient", replace(_RETRY, after=1, growth=4, attempts=5)),
    Known((4, 17, 32, 341, 613, 80007, 80008), "too many calls of the app or the account", _ACCOUNT_LIMIT),
    # An operator must act; the bot keeps its queue until then.
    Known((0, 102, 190, 467), "the access token is not valid",
          _HELD, "enter a new access token for this bot"),
    Known((3,), "the app lacks a capability",
          _HELD, "give the app the whatsapp_business_messaging permission"),
    Known((10, *range(200, 300), 131005), "permission denied",
          _HELD, "give the token access to this number with whatsapp_business_messaging"),
    Known((368, 131031), "the account is blocked for a breach of policy",
          _HELD, "see the account's quality page in WhatsApp Manager"),
    Known((131048, 131064), "messages from this number are limited because of complaints",
          _HELD, "stop bulk messages and see the number's quality in WhatsApp Manager"),
    Known((131042, 131044), "the account's payment method is not accepted",
          _HELD, "put the billing right in WhatsApp Manager"),
    Known((131037,), "the number's display name is not approved",
          _HELD, "have the display name approved in WhatsApp Manager"),
    Known((133010,), "the number is not registered", _HELD, "register the number with Meta"),
    Known((131045,), "the number's certificate is not accepted", _HELD, "register the number with Meta again"),
    Known((134011,), "the terms are not accepted", _HELD, "accept WhatsApp's terms in the business settings"),
    # An operator must act, but for one country or one template only: the rest of the queue is not held.
    Known((130497,), "the account may not write to this recipient's country",
          _REJECTED, "see the account's restrictions in WhatsApp Manager"),
    Known((132015, 132016, 132068, 132069), "the template or flow is paused, disabled or blocked",
          _REJECTED, "see the template's quality in WhatsApp Manager"),
    # Refused permanently.
    Known((33,), "the number does not exist", _REJECTED, "check the bot's phone number id"),
    Known((100,), "a parameter is not valid", _REJECTED),
    Known((130403,), "the recipient is blocked", _REJECTED),
    Known((130472,), "the recipient is part of an experiment of Meta's", _REJECTED),
    Known((131008,), "a required parameter is missing", _REJECTED),
    Known((131009,), "the value of a parameter is not valid", _REJECTED),
    Known((131020,), "the group has no other member", _REJECTED),
    Known((131021,), "the recipient is the sender", _REJECTED),
    Known((131026,), "the message cannot be delivered", _REJECTED, "the recipient may not be on WhatsApp"),
    Known((131030,), "the recipient is not on the allowed list",
          _REJECTED, "add the recipient to the test number's list in the app dashboard"),
    Known((131041,), "the group does not exist, or the number is not a member of it", _REJECTED),
    Known((131047,), "more than 24 hours have passed since the recipient's last message",
          _REJECTED, "send a template instead"),
    Known((131049,), "Meta chose not to deliver it, to keep the recipient engaged",
          _REJECTED, "wait at least 24 hours before the next one"),
    Known((131050,), "the recipient does not want marketing messages", _REJECTED),
    Known((131051,), "the type of the message is not supported", _REJECTED),
    Known((131052,), "the recipient's media could not be downloaded", _REJECTED, "ask for it to be sent again"),
    Known((FILE_REFUSED,), "the media could not be uploaded", _REJECTED, "check the file's type and size"),
    Known((131055,), "the API does not have this operation", _REJECTED),
    Known((131062,), "the recipient's user id cannot be written to", _REJECTED),
    Known((131063,), "marketing templates are disabled for the Cloud API",
          _REJECTED, "enable them in WhatsApp Manager, or send them through the Marketing Messages API"),
    Known((132000, 132005, 132007, 132008, 132012, 132018),
          "the template's parameters do not match it", _REJECTED),
    Known((132001,), "the template does not exist in that language", _REJECTED),
    Known((134100, 134101, 134102), "the account may not use the Marketing Messages API for this",
          _REJECTED, "see the account's settings in WhatsApp Manager"),
    Known((135000,), "the request is not valid", _REJECTED),
    Known((137000,), "the recipient's identity has changed", _REJECTED),
)  # fmt: skip

#: The known codes: those on Meta's page of error codes, and undocumented ones that were seen.
TABLE: dict[int, Known] = {code: row for row in _ROWS for code in row.codes}

#: An error answer means that nothing was sent, so another attempt cannot send the message twice. It helps if the fault
#: is temporary; otherwise the message fails with this code. A hold would let one odd message block the whole bot.
_UNDOCUMENTED = Known((), "an error that is not documented", _RETRY)
#: The same where the HTTP status says more. Only a credential that is refused concerns the whole bot.
_UNDOCUMENTED_BY_STATUS = {
    401: replace(_UNDOCUMENTED, outcome=_HELD, advice="enter a new access token for this bot"),
    408: _UNDOCUMENTED,
    429: replace(_UNDOCUMENTED, outcome=replace(_BOT_LIMIT, after=TOO_MANY_CALLS_SECONDS, slower=True)),
}
_UNDOCUMENTED_REFUSAL = replace(_UNDOCUMENTED, outcome=_REJECTED)
_UNDOCUMENTED_TROUBLE = replace(_UNDOCUMENTED, outcome=replace(_UNAVAILABLE, attempts=3))


@dataclass(frozen=True, slots=True)
class MetaError:
    """An error in Meta's words, from an answer or from a `failed` status."""

    code: int
    message: str
    transient: bool = False  # whether Meta says that another attempt may succeed


def read_error(error: object) -> MetaError | None:
    """Read an `error` object; None if it is not one of Meta's. `error_data` may be an object, a string or missing."""
    if not isinstance(error, dict):
        return None
    code = error.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 19:
        code = int(code)
    if not isinstance(code, int) or isinstance(code, bool):
        return None
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else data
    texts = (error.get("message") or error.get("title"), details)
    words = dict.fromkeys(cleaned for each in texts if isinstance(each, str) and (cleaned := plain(each)))
    reason = ": ".join(words)[:MAX_REASON] or TABLE.get(code, _UNDOCUMENTED).about
    return MetaError(code, reason, error.get("is_transient") is True)


def plain(text: str) -> str:
    """A provider's text, fit to be stored and shown: Graph repeats a malformed access token in its error."""
    return _TOKEN.sub("…", text.replace("\0", "")).strip()


def classify(code: int, message: str, status: int = 0, transient: bool = False) -> Refusal:
    """The meaning of an error answer for the message and its bot. Every code has an outcome.

    `status`: the HTTP status, which counts for codes that are not in the table; 0: unknown.
    """
    row = TABLE.get(code) or _undocumented(status, transient)
    return replace(row.outcome, code=str(code), reason="; ".join(filter(None, (message or row.about, row.advice))))


def _undocumented(status: int, transient: bool) -> Known:
    if status in _UNDOCUMENTED_BY_STATUS:
        return _UNDOCUMENTED_BY_STATUS[status]
    if status >= 500:
        return _UNDOCUMENTED_TROUBLE
    return _UNDOCUMENTED_REFUSAL if status >= 400 and not transient else _UNDOCUMENTED


# --- Answers as a whole -----------------------------------------------------------------------------------------------


def read(body: bytes) -> Any:
    """The JSON of an answer; None if it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def field(value: Any, name: str) -> Any:
    """The field of an object; None if it is not an object."""
    return value.get(name) if isinstance(value, dict) else None


def error_of(answer: Any) -> MetaError | None:
    """The error in an answer that has Graph's form."""
    return read_error(field(answer, "error"))


def refusal(status: int, body: bytes) -> Refusal | None:
    """Why nothing was done; None if the answer does not say, so that the request may have been carried out."""
    answer = read(body)
    if error := error_of(answer):
        return classify(error.code, error.message, status, error.transient)
    if isinstance(meta := field(answer, "meta"), dict) and (found := _dialog360_refusal(status, meta)):
        return found
    if status == 429:
        return _too_many_calls("http_429", shown(status, body))
    if status == 503:  # "the server is currently unable to handle the request" (RFC 9110, 15.6.4), so it did not
        return Unavailable(outage(status), f"the provider serves nobody ({shown(status, body)})", chargeable=True)
    if 300 <= status < 500:
        # A proxy, a wrong address, or a filter that rejects this one message.
        advice = "not an answer of the API: check META_GRAPH_URL or DIALOG360_URL, and any proxy in between"
        return Unavailable(outage(status), f"{advice} ({shown(status, body)})", chargeable=True)
    return None


def outage(status: int) -> str:
    """The code of an outage during which answers have this HTTP status and do not come from the API."""
    return f"{OUTAGE_PREFIX}{status}"


def shown(status: int, body: bytes) -> str:
    """The beginning of an answer that makes no sense."""
    return plain(f"HTTP {status}: {body[:MAX_SHOWN].decode(errors='replace')}")


#: 360dialog answers all of these with 400; only the words distinguish them.
_RATE = re.compile(r"\brate\b|too many|throttl|(request|message|messaging|daily|hourly)s? limit", re.IGNORECASE)
_CLOSED = re.compile(r"disabled|deactivated|inactive|suspended|paid|payment|billing|invoice|balance", re.IGNORECASE)


def _dialog360_refusal(status: int, meta: dict[str, Any]) -> Refusal | None:
    """360dialog's own refusals, which have a status and a sentence instead of a code."""
    own_status = _either(meta, "httpCode", "http_code")
    status = own_status if isinstance(own_status, int) else status
    words = _either(meta, "developerMessage", "developer_message")
    reason = plain(words)[:MAX_REASON] if isinstance(words, str) else ""
    reason = reason or f"HTTP {status} without a reason"
    code = f"360dialog_{status}"
    match status:
        case 401:
            return Held(code, f"{reason}; enter a new API key for this bot")
        case 403 | 404:
            return Held(code, f"{reason}; check DIALOG360_URL and the permissions of the API key")
        case 429:
            return _too_many_calls(code, reason)
        case 400 if _RATE.search(reason):
            return _too_many_calls(code, reason)
        case 400 if _CLOSED.search(reason):
            return Held(code, f"{reason}; put the number right in the 360dialog Hub")
        case 400:
            return Rejected(code, reason)
    return None


def _either(meta: dict[str, Any], *names: str) -> Any:
    """The value under the first of two spellings; both occur."""
    return next((meta[name] for name in names if name in meta), None)


def _too_many_calls(code: str, reason: str) -> Retry:
    return Retry(code, reason, after=TOO_MANY_CALLS_SECONDS, scope=Scope.BOT, slower=True, counted=False)
