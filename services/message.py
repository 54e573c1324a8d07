"""The values that travel through the services: messages, bots, outcomes of sends, updates from providers.

This module imports none of ours.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict

#: Characters in a text, at most (Cloud API reference, "Text messages").
MAX_TEXT = 4096


class Status(StrEnum):
    """A message's life, in the order in which it may move; the database type `message_status` has the same order."""

    QUEUED = "queued"  # accepted, not yet claimed
    WAITING = "waiting"  # its number is held; the queue is kept
    SENDING = "sending"  # claimed by a worker
    UNKNOWN = "unknown"  # it may have been sent: never sent again, reconciled with the provider
    SENT = "sent"  # the provider accepted it
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
    access_token: Secret = field(default_factory=lambda: Secret(""))  # 360dialog: the API key


class StoredFile(TypedDict, total=False):
    """The file of a stored payload: a link, or a key of the media store."""

    link: str
    key: str
    mimeType: str
    size: int
    sha256: str
    filename: str | None
    fetch: bool  # hidden from callers: the provider could not fetch the link, so we do
    refused: str  # hidden from callers: the provider's id of the send whose link was refused


class TextPayload(TypedDict, total=False):
    """The stored payload of a text."""

    message: str
    mentions: list[str]
    quotedMessageId: str  # the id that the caller gave, ours or the provider's
    quoted_provider_id: str
    userName: str


class MediaPayload(TypedDict, total=False):
    """The stored payload of a message with a file."""

    media: StoredFile
    caption: str
    filename: str
    voice: bool
    quotedMessageId: str
    quoted_provider_id: str
    userName: str


class TemplatePayload(TypedDict, total=False):
    """The stored payload of a template."""

    templateName: str
    language: str
    variables: list[str]  # of the body, {{1}} first
    components: list[dict[str, Any]]  # as the provider has them, instead of the variables
    userName: str


class ReactionPayload(TypedDict, total=False):
    """The stored payload of a reaction."""

    reaction: str  # one emoji; empty: remove it
    targetMessageId: str
    target_provider_id: str


class ReadPayload(TypedDict, total=False):
    """The stored payload of a read receipt."""

    typing: bool
    targetMessageId: str
    target_provider_id: str


class EditPayload(TypedDict, total=False):
    """The stored payload of an edit."""

    message: str
    targetMessageId: str
    target_provider_id: str


class DeletePayload(TypedDict, total=False):
    """The stored payload of a deletion."""

    deleteForEveryone: bool
    targetMessageId: str
    target_provider_id: str


class Payload(
    TextPayload, MediaPayload, TemplatePayload, ReactionPayload, ReadPayload, EditPayload, DeletePayload, total=False
):
    """The stored payload of a message of any kind, whose `kind` says which keys it has.

    A function for one kind takes that kind's payload. The keys are those of the column `outbox.payload`.
    """


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that a worker has claimed."""

    id: int  # outbox.id
    message_id: str  # the uuid the caller was given
    bot_id: int
    chat_id: str
    kind: str
    payload: Payload
    attempts: int  # finished attempts before this one
    provider_id: str | None = None  # the key that an earlier attempt chose for it, if the channel chooses keys
    outage: str | None = None  # the code of its number's outage, if this attempt finds out whether it is over
    fence: int | None = None  # the number of this claim of its chat
    unmarked: bool = False  # whether it must be marked in the database before it may leave
    request_id: str | None = None  # of the request that it came with
    is_followed: bool = False  # whether messages of its chat wait behind it
    new_key: str | None = None  # the key that this claim has reserved: the message was admitted and never left


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider accepted it. A send that is no message of its own, such as a read receipt, gets no id."""

    provider_id: str | None = None
    recipient: str | None = None  # the chat as the provider calls it, if it knows the number under another form


class Scope(StrEnum):
    """How much waits when a send is postponed."""

    CHAT = "chat"
    BOT = "bot"
    ACCOUNT = "account"  # every number of the same business account (phone_configs.meta_waba_id)


@dataclass(frozen=True, slots=True)
class Retry:
    """Known not to have been sent, and worth another attempt."""

    code: str
    reason: str
    after: float | None = None  #: Seconds to wait; None: exponential back-off from the channel's base.
    attempts: int | None = None  #: Attempts in all, if the provider advises other than the channel's setting.
    scope: Scope = Scope.CHAT  #: The scope of the hold of `after` seconds.
    growth: float = 1.0  #: The factor by which each wait is longer than the one before.
    slower: bool = False  #: The number's rate is halved for a while as well.
    counted: bool = True  #: Whether it counts as an attempt of the message; False: it is not the message's fault.


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Known not to have been sent, because the provider cannot be reached or serves nobody just now.

    No attempt of the message is counted. The number is held with its queue until an attempt succeeds, unless others of
    its messages get through meanwhile.
    """

    code: str
    reason: str
    #: Whether it may be the message's own fault: it counts once it alone is refused (`OutagePolicy`).
    chargeable: bool = False
    attempts: int | None = None  #: Attempts in all, once it is the message's own fault, as in `Retry`.
    after: float = 0.0  #: Seconds to wait at least.
    scope: Scope = Scope.BOT  #: `CHAT`: never holds more than the message's chat.


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused permanently: another attempt would be refused as well."""

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
    outage: str = ""  #: The code of the provider's outage, if the next message would meet it as well.
    code: str = ""  #: Names the cause, if it is not an outage.


Outcome = Sent | Retry | Unavailable | Rejected | Held | Unknown


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """A provider's later report about a message that it accepted."""

    provider_id: str
    status: Status  # sent, delivered, read or failed
    at: float  # seconds since the epoch
    message_id: str | None = None  # ours, if the provider echoes it
    error_code: str | None = None
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)  # "pricing", "errors", …, as the provider has them
    number: str = ""  # the provider's id of the number that sent it; empty: its own secret or browser says whose it is
    link_refused: bool = False  # the provider could not fetch the message's link: a copy of ours may help
    recipient: str | None = None  # the chat as the provider calls it


@dataclass(frozen=True, slots=True)
class Media:
    """A file that came with a message and is still with the provider."""

    id: str  # the provider's
    mime_type: str  # may have parameters: audio/ogg; codecs=opus
    sha256: str | None = None  # as the provider writes it
    filename: str | None = None
    voice: bool = False
    animated: bool = False
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of a chat. At least one of the two ids is known: users may hide their number."""

    chat_id: str | None  # digits, or <id>@g.us
    user_id: str | None = None  # Meta's business-scoped user id, or WhatsApp Web's <id>@lid
    name: str | None = None  # as the profile has it; in a group, the name of the author


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that came in, or one that the business sent by its own phone (`from_me`)."""

    number: str  # the provider's id of our number (phone_number_id)
    provider_id: str
    sender: Peer  # the chat's other side, also of one that is `from_me`
    kind: str  # text, image, …, or any other kind, as the provider calls it
    at: float  # seconds since the epoch
    text: str | None = None  # for people: body, caption, title of the button
    quoted: str | None = None  # the provider's id of the message it answers
    media: Media | None = None
    content: dict[str, Any] = field(default_factory=dict)  # the message as the provider has it
    from_me: bool = False
    status: Status = Status.SENT  # of one that is `from_me`
    details: dict[str, Any] = field(default_factory=dict)  # "referral", "forwarded", …, by the names of the event
    plain: bool = False  # whether the fields above say all that `content` does
    backfill: bool = False  # history of the past, or another program answers it: it is stored and raises no events


@dataclass(frozen=True, slots=True)
class Reaction:
    """A reaction to a message, or its removal."""

    number: str
    provider_id: str  # of the reaction
    sender: Peer
    target: str  # the provider's id of the message reacted to
    emoji: str  # empty: removed
    at: float
    from_me: bool = False
    backfill: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """A new text of a message."""

    number: str
    sender: Peer
    target: str
    text: str
    at: float
    from_me: bool = False
    backfill: bool = False


@dataclass(frozen=True, slots=True)
class Revocation:
    """A message was deleted for everyone."""

    number: str
    sender: Peer
    target: str
    at: float
    from_me: bool = False
    backfill: bool = False


@dataclass(frozen=True, slots=True)
class Renaming:
    """A person has another phone number or user id: their chat continues under it."""

    number: str
    previous: Peer
    current: Peer
    at: float


class Severity(StrEnum):
    """The severity of a process event."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Holding:
    """The provider does not serve a number."""

    code: str  # stable: names the cause
    reason: str
    until: float | None = None  #: Seconds since the epoch; None: until the provider, or a check, says otherwise.


@dataclass(frozen=True, slots=True)
class Lifting:
    """The provider serves a number again."""

    codes: tuple[str, ...] | None = None  #: The causes that no longer apply; None: all.


NoticeEffect = Holding | Lifting


@dataclass(frozen=True, slots=True)
class Notice:
    """A provider's update that is not about a message of a chat: of a number, an account, a template, a group."""

    event: str  # the customer's event: template.status, account.update, …
    field: str  # as the provider calls it
    number: str | None  # the provider's id of our number, if it is about one
    account: str | None  # the provider's id of the business account
    value: dict[str, Any]
    for_operators: bool = True  # whether operators see it and the bots are checked; else it is for the customer alone
    phone: str | None = None  # digits of the account's one phone number that it is about, if the id is not named
    severity: Severity = Severity.WARNING
    effect: NoticeEffect | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """An incoming call; it cannot be answered here."""

    number: str
    provider_id: str
    sender: Peer
    at: float
    video: bool = False
    group: bool = False


Update = StatusUpdate | Incoming | Reaction | Edit | Revocation | Renaming | Call | Notice


_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9]{1,128}", re.ASCII)


def is_user_id(chat_id: str) -> bool:
    """Whether a chat is named by a business-scoped user id of Meta's (`US.1349…`), because its number is hidden."""
    return _USER_ID.fullmatch(chat_id) is not None
