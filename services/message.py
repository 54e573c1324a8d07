"""The values that travel through the services: messages, bots, and what became of a send. Imports nothing of ours."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Characters in a text, at most (Cloud API reference, "Text messages").
MAX_TEXT = 4096


class Status(StrEnum):
    """A message's life, in the order in which it may move; the database type `message_status` has the same order."""

    QUEUED = "queued"  # accepted, not yet in hand
    WAITING = "waiting"  # an operator must act first; the queue is kept
    SENDING = "sending"  # in a worker's hand
    UNKNOWN = "unknown"  # it may have been sent: never sent again, reconciled with the provider
    SENT = "sent"  # the provider took it
    FAILED = "failed"  # it will not be sent; the reason is kept
    DELIVERED = "delivered"
    READ = "read"

    @property
    def settled(self) -> bool:
        """Whether a caller that waits for the outcome has it."""
        return self not in (Status.QUEUED, Status.SENDING)


@dataclass(frozen=True, slots=True)
class Secret:
    """A credential that does not show itself in logs and tracebacks."""

    value: str

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Bot:
    """A number of a company: one row of `phone_configs`."""

    id: int
    company_id: str
    phone_index: int
    process_name: str  # the channel that serves it: meta or wwebjs
    connection_type: str  # wwebjs, meta_direct, meta_embedded or 360dialog
    phone_number_id: str = ""  # Meta's id of the number
    access_token: Secret = field(default_factory=lambda: Secret(""))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that a worker has claimed."""

    id: int  # outbox.id
    message_id: str  # the uuid the caller was given
    bot_id: int
    chat_id: str
    kind: str
    payload: dict[str, Any]
    attempts: int  # finished attempts before this one


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider took the message."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Known not to have been sent, and worth another attempt."""

    code: str
    reason: str
    after: float | None = None  #: Seconds to wait; None: exponential back-off from the channel's base.
    attempts: int | None = None  #: Attempts in all, where the provider advises other than the channel's setting.
    hold_bot: bool = False  #: Hold the whole number for `after` seconds, not this chat alone.
    growth: float = 1.0  #: Each wait of `after` seconds is so many times longer than the one before.


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good: another attempt would be refused as well."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """An operator must act (expired token, missing permission); the bot waits with its queue."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been sent: the connection broke or the answer made no sense after the request had left."""

    reason: str


Outcome = Sent | Retry | Rejected | Held | Unknown


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """What a provider reports later about a message that it took."""

    provider_id: str
    status: Status  # sent, delivered, read or failed
    at: float  # seconds since the epoch
    message_id: str | None = None  # ours, where the provider echoes it
    error_code: str | None = None
    error: str | None = None


class InvalidChatId(ValueError):
    """Not a chat id in any known form."""


_NUMBER = re.compile(r"\+?([1-9][0-9]{4,14})(?:@c\.us)?", re.ASCII)
_OTHER = re.compile(r"[0-9]+(?:-[0-9]+)?@(?:g\.us|lid)", re.ASCII)
_CONTACT = re.compile(r"(.+)-(\+?[0-9]+)", re.ASCII)


def normalise_chat_id(raw: str, company_id: str) -> str:
    """The one form under which a chat is known: E.164 digits, `<id>@g.us` for a group, `<id>@lid` for a hidden number.

    Accepts bare digits, a leading plus, `<digits>@c.us`, a group or lid id as it is, and the database's
    contact id `<companyId>-<digits>`. Raises `InvalidChatId` with the reason otherwise.
    """
    if _OTHER.fullmatch(raw) and len(raw) <= 64:
        return raw
    number = raw
    if "@" not in raw and (contact := _CONTACT.fullmatch(raw)):
        if contact[1] != company_id:
            raise InvalidChatId(f"the contact id {raw!r} belongs to another company than {company_id!r}")
        number = contact[2]
    if match := _NUMBER.fullmatch(number):
        return match[1]
    raise InvalidChatId(
        "a chat id is a phone number in international form (60123456789, +60123456789, 60123456789@c.us), "
        "a group (…@g.us), a hidden number (…@lid) or <companyId>-<number>"
    )
