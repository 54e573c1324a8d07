"""`docs/reference/errors.md`: the codes of the HTTP API and of messages."""

from collections.abc import Mapping

from markdown_table import table

from services.api.message_errors import HTTP, OURS, WEB, MessageError
from services.connectors.base import Refusal
from services.connectors.meta.translation.errors import TABLE
from services.http_server.error_codes import RECEIVER_CODES, ErrorCode
from services.message import Held, Rejected, Unavailable

INTRODUCTION = """\
# Errors

Every error code of the HTTP API, and every code of a message that failed.

## The HTTP API

Every error has the form `{"success": false, "error": "a sentence", "code": "snake_case"}`. Programs compare `code`; \
`error` is for people and says what to do. Answers with the status 429 or 503 have the header `Retry-After`.

Some errors have more fields: `link_failed` and `provider_unavailable` of `POST /api/bots` have `step`, \
`providerCode`, `next` and `kept`; `not_scanning` has `status` and `reason`; `send_failed` has `messageId`, `status` \
and `providerCode`.
"""

RECEIVER = """\
## Providers' webhooks

The addresses that receive the webhooks of Meta and 360dialog also answer with these codes. Only an operator can \
correct them.
"""

MESSAGES = """\
## Messages

`error.code` of a message, `providerCode` of `send_failed`, and `error.code` of the event `message.ack` are one of \
these. `error.reason` is a sentence that says more.
"""

META = """\
### Meta

The codes of Meta's page "Error codes", as numbers in a string. *What follows* says what bisnesctl does. A message \
that is refused has failed. If the bot is held, its messages wait until an operator has acted. If the provider is \
unavailable, they wait until it is available. Other messages are tried again. Undocumented codes are tried again.
"""


def render() -> str:
    """The page."""
    api = [code for code in ErrorCode if code not in RECEIVER_CODES]
    receiver = [code for code in ErrorCode if code in RECEIVER_CODES]
    return "\n".join([
        INTRODUCTION,
        _codes(api),
        RECEIVER,
        _codes(receiver),
        MESSAGES,
        "### Every channel\n",
        _errors(OURS | HTTP),
        "### WhatsApp Web\n",
        _errors(WEB),
        META,
        _meta(),
    ]).rstrip("\n") + "\n"  # fmt: skip


def _codes(codes: list[ErrorCode]) -> str:
    rows = [(f"`{code.value}`", str(code.status), code.meaning, code.advice) for code in codes]
    return table(("code", "status", "when", "what to do"), rows) + "\n"


def _errors(errors: Mapping[str, MessageError]) -> str:
    rows = [(f"`{code}`", error.meaning, error.advice) for code, error in errors.items()]
    return table(("code", "meaning", "what to do"), rows) + "\n"


def _meta() -> str:
    rows = [
        (f"`{code}`", _sentence(row.about), _effect(row.outcome), _sentence(row.advice))
        for code, row in sorted(TABLE.items())
    ]
    return table(("code", "meaning", "what follows", "what to do"), rows) + "\n"


def _effect(outcome: Refusal) -> str:
    match outcome:
        case Rejected():
            return "refused"
        case Held():
            return "the bot is held"
        case Unavailable():
            return "unavailable"
        case _:
            return "tried again"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""
