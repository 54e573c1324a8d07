"""The interface between the outbox and a channel: a connector turns messages into requests, and answers into outcomes.

A connector uses no database. `translation.incoming` of each channel parses the reports of its provider.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.http_exchange import HttpRequest
from services.message import Bot, Held, Outcome, Outgoing, Rejected, Retry, Unavailable


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A message's file on this machine's disk."""

    path: Path
    mime_type: str
    release: Callable[[], object]  # call it when the file is no longer needed
    filename: str | None = None  # its name, by its server or by the caller


@dataclass(frozen=True, slots=True)
class PageCall:
    """A function of a browser's page and its arguments, as JSON."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One send through a browser's page."""

    message: Outgoing
    calls: tuple[PageCall, ...]  # to be made in this order; the answer of the last one is the outcome
    file: LocalFile | None = None


#: The code of an outage in which connections break after the request has left.
NO_ANSWER = "no_answer"

Request = HttpRequest | PageRequest
#: Why nothing was sent.
Refusal = Retry | Unavailable | Rejected | Held


@dataclass(frozen=True, slots=True)
class Preparation:
    """Work that must be done before a message can leave, such as an upload of its file; harmless to repeat.

    `run` may take seconds, so it is called on a thread of its own. It returns None if the connector can now be asked
    for the request, or why there is nothing to send.
    """

    run: Callable[[], Refusal | None]


@dataclass(frozen=True, slots=True)
class Again:
    """The provider refused, but the connector knows another way: ask it for a request again, in the same attempt."""


class Unsupported(ValueError):
    """The channel cannot send this to this chat; the text says what to do instead."""


class Connector(Protocol):
    """The translator of one channel."""

    process_name: str

    def request(self, bot: Bot, message: Outgoing) -> Request | Preparation | Refusal:
        """The request that sends the message, the work that must come first, or why it cannot be sent."""

    def probe(self, bot: Bot, outage: str) -> Preparation | None:
        """A check, which sends nothing, of whether a bot's outage is over. `outage`: its code.

        None if the next message may serve as the check, because the outcome of a message is never in doubt.
        """


class HttpConnector(Connector, Protocol):
    """A channel whose requests are sent over HTTP."""

    def outcome(self, message: Outgoing, status: int, body: bytes) -> Outcome | Again:
        """The meaning of the provider's complete answer. `status`: the HTTP status."""
