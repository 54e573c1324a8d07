"""What Meta's errors mean for a message: the documented codes as data, and what to do about each.

Errors are told apart by `error.code` alone: Meta advises against relying on HTTP statuses (Cloud API reference, "Error
codes"). The statuses here serve the simulator.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from services.connectors.base import Refusal
from services.message import Held, Rejected, Retry, Scope, Unavailable

#: Characters that are kept of what Meta says about an error.
MAX_REASON = 1000
#: What looks like an access token in what Meta says.
_TOKEN = re.compile(r"\bEA[a-z0-9]{16,}|(?<=access token )\S{16,}|(?<=access token: )\S{16,}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Known:
    """One row: known codes, what they are about and what follows; the outcome lacks its code and reason."""

    codes: Iterable[int]
    http: int
    about: str
    outcome: Refusal
    advice: str = ""


_SOON = Retry("", "")
_AWAY = Unavailable("", "", chargeable=True)
_NEVER = Rejected("", "")
_OPERATOR = Held("", "")
_MINUTES = Retry("", "", after=300, scope=Scope.ACCOUNT, counted=False)
_NUMBER = replace(_MINUTES, scope=Scope.BOT)

_ROWS = (
    # Meta's own trouble: nothing was sent, and the next message of the number would fare no better.
    Known((1,), 400, "unknown error of the API", replace(_AWAY, attempts=2)),
    Known((2, 133004), 503, "the service is temporarily unavailable", _AWAY),
    Known((131000,), 500, "something went wrong", replace(_AWAY, attempts=3)),
    Known((131016,), 500, "the service is overloaded", _AWAY),
    Known((131057,), 500, "the number is being upgraded", Unavailable("", "", after=60)),
    # Known not to have been sent, worth another attempt.
    Known((130429,), 400, "too many messages from this number", replace(_NUMBER, after=5, slower=True)),
    # "Wait 4^X seconds" (Cloud API, "Pair rate limits"): 1, 4, 16 and 64, for this chat alone.
    Known((131056,), 400, "too many messages to this recipient", replace(_SOON, after=1, growth=4, attempts=5)),
    Known((4, 17, 613, 80007), 400, "too many calls of the app or the account", _MINUTES),
    # An operator must act; the number waits with its queue.
    Known((0, 190), 401, "the access token is not valid",
          _OPERATOR, "enter a new access token for this bot"),
    Known((3,), 500, "the app lacks a capability",
          _OPERATOR, "give the app the whatsapp_business_messaging permission"),
    Known((10, *range(200, 300), 131005), 403, "permission denied",
          _OPERATOR, "give the token access to this number with whatsapp_business_messaging"),
    Known((368, 131031), 403, "the account is blocked for a breach of policy",
          _OPERATOR, "see the account's quality page in WhatsApp Manager"),
    Known((131048, 131064), 400, "messages from this number are limited because of complaints",
          _OPERATOR, "stop bulk messages and see the number's quality in WhatsApp Manager"),
    Known((131042, 131044), 400, "the account's payment method is not accepted",
          _OPERATOR, "put the billing right in WhatsApp Manager"),
    Known((131037,), 400, "the number's display name is not approved",
          _OPERATOR, "have the display name approved in WhatsApp Manager"),
    Known((133010,), 400, "the number is not registered", _OPERATOR, "register the number with Meta"),
    Known((131045,), 500, "the number's certificate is not accepted", _OPERATOR, "register the number with Meta again"),
    Known((134011,), 400, "the terms are not accepted", _OPERATOR, "accept WhatsApp's terms in the business settings"),
    # Meta's operator must act here too, but for one country or one template: the rest of the queue is not held for it.
    Known((130497,), 403, "the account may not write to this recipient's country",
          _NEVER, "see the account's restrictions in WhatsApp Manager"),
    Known((132015, 132016, 132068, 132069), 400, "the template or flow is paused, disabled or blocked",
          _NEVER, "see the template's quality in WhatsApp Manager"),
    # Refused for good.
    Known((33,), 400, "the number does not exist", _NEVER, "check the bot's phone number id"),
    Known((100,), 400, "a parameter is not valid", _NEVER),
    Known((130403,), 400, "the recipient is blocked", _NEVER),
    Known((130472,), 400, "the recipient is part of an experiment of Meta's", _NEVER),
    Known((131008,), 400, "a required parameter is missing", _NEVER),
    Known((131009,), 400, "the value of a parameter is not valid", _NEVER),
    Known((131020,), 400, "the group has no other member", _NEVER),
    Known((131021,), 400, "the recipient is the sender", _NEVER),
    Known((131026,), 400, "the message cannot be delivered", _NEVER, "the recipient may not be on WhatsApp"),
    Known((131030,), 400, "the recipient is not on the allowed list",
          _NEVER, "add the recipient to the test number's list in the app dashboard"),
    Known((131041,), 400, "the group does not exist, or the number is not a member of it", _NEVER),
    Known((131047,), 400, "more than 24 hours have passed since the recipient's last message",
          _NEVER, "send a template instead"),
    Known((131049,), 400, "Meta chose not to deliver it, to keep the recipient engaged",
          _NEVER, "wait at least 24 hours before the next one"),
    Known((131050,), 400, "the recipient does not want marketing messages", _NEVER),
    Known((131051,), 400, "the type of the message is not supported", _NEVER),
    Known((131052,), 400, "the recipient's media could not be downloaded", _NEVER, "ask for it to be sent again"),
    Known((131053,), 400, "the media could not be uploaded", _NEVER, "check the file's type and size"),
    Known((131062,), 400, "the recipient's user id cannot be written to", _NEVER),
    Known((131063,), 400, "marketing templates are disabled for the Cloud API",
          _NEVER, "enable them in WhatsApp Manager, or send them through the Marketing Messages API"),
    Known((132000, 132005, 132007, 132008, 132012, 132018), 400, "the template's parameters do not match it", _NEVER),
    Known((132001,), 404, "the template does not exist in that language", _NEVER),
    Known((135000,), 400, "the request is not valid", _NEVER),
    Known((137000,), 400, "the recipient's identity has changed", _NEVER),
)  # fmt: skip

#: The known codes: those of Meta's page of error codes, and those that it answers with all the same.
TABLE: dict[int, Known] = {code: row for row in _ROWS for code in row.codes}

#: An error answer means that nothing was sent, so an attempt more doubles nothing: it bridges a passing trouble, and a
#: lasting one fails with its code after the channel's attempts. Holding the number would let one odd message stop all.
_UNDOCUMENTED = Known((), 500, "an error that is not documented", _SOON)


@dataclass(frozen=True, slots=True)
class MetaError:
    """An error as Meta words it, in an answer or in a `failed` status."""

    code: int
    message: str


def read_error(error: object) -> MetaError | None:
    """Read an `error` object; None where it is none of Meta's. `error_data` may be an object, a string or missing."""
    if not isinstance(error, dict):
        return None
    code = error.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 19:
        code = int(code)
    if not isinstance(code, int) or isinstance(code, bool):
        return None
    said = dict.fromkeys(filter(None, map(_text, (error.get("message") or error.get("title"), _details(error)))))
    return MetaError(code, ": ".join(said)[:MAX_REASON] or TABLE.get(code, _UNDOCUMENTED).about)


def _details(error: dict[str, Any]) -> object:
    data = error.get("error_data")
    return data.get("details") if isinstance(data, dict) else data


def _text(value: object) -> str:
    return plain(value) if isinstance(value, str) else ""


def plain(text: str) -> str:
    """What a provider says, fit to be kept and shown: Graph repeats a malformed access token in its error."""
    return _TOKEN.sub("…", text.replace("\0", "")).strip()


def classify(code: int, message: str) -> Refusal:
    """What an error answer means for the message and its number. Total: every code has an outcome."""
    row = TABLE.get(code, _UNDOCUMENTED)
    return replace(row.outcome, code=str(code), reason="; ".join(filter(None, (message or row.about, row.advice))))
