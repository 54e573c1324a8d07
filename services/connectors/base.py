"""What the delivery asks of a channel. A connector translates in both directions and touches no database."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.http_client import HttpRequest
from services.message import Bot, Held, Outcome, Outgoing, Payload, Rejected, Retry, Unavailable, Update


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A message's file on this machine's disk."""

    path: Path
    mime_type: str
    release: Callable[[], object]  # to be called once it is not needed any more


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One send through a browser's page."""

    message: Outgoing
    file: LocalFile | None = None


#: The code of an outage in which connections break after the request has left.
NO_ANSWER = "no_answer"

Request = HttpRequest | PageRequest
#: Why nothing was sent.
Refusal = Retry | Unavailable | Rejected | Held


@dataclass(frozen=True, slots=True)
class Preparation:
    """What must be done before a message can leave, such as uploading its file; harmless to repeat.

    `run` may take seconds: it is called on a thread of its own. It returns None when the connector can now be asked for
    the request, or why there is nothing to send.
    """

    run: Callable[[], Refusal | None]


@dataclass(frozen=True, slots=True)
class Again:
    """Refused, but the connector knows another way: it is asked for the request once more, in the same attempt."""


class Unsupported(ValueError):
    """The channel cannot do that for that chat; the text says what to do instead."""


class Connector(Protocol):
    """A channel: its messages leave through a window that takes its requests."""

    process_name: str

    def check(self, kind: str, chat_id: str, payload: Payload) -> None:
        """Refuse before acceptance what the channel could never send; raises `Unsupported`."""

    def request(self, bot: Bot, message: Outgoing) -> Request | Preparation:
        """The request that sends the message, or what must be done before there can be one."""

    def probe(self, bot: Bot, outage: str) -> Preparation | None:
        """How to find out, without sending anything, whether a number's outage is over; `outage`: its code.

        None if the next message may find out: nothing of that kind leaves a message's outcome open.
        """

    def outcome(self, message: Outgoing, status: int, body: bytes) -> Outcome | Again:
        """What the provider's complete answer means; `status` is the HTTP status, or a window's likeness of one."""

    def parse(self, body: bytes) -> list[Update]:
        """What one stored webhook, or a browser's event, tells, in its order. Raises ValueError where it is none."""
