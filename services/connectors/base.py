"""What the delivery asks of a channel. A connector translates in both directions and touches no database."""

from dataclasses import dataclass
from typing import Any, Protocol

from services.message import Bot, Outcome, Outgoing, StatusUpdate


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One POST that sends one message."""

    url: str
    headers: tuple[str, ...]  # "Name: value" lines
    body: bytes


class Unsupported(ValueError):
    """The channel cannot do that for that chat; the text says what to do instead."""


class Connector(Protocol):
    """A channel whose messages leave by one HTTP request each."""

    process_name: str

    def check(self, kind: str, chat_id: str, payload: dict[str, Any]) -> None:
        """Refuse before acceptance what the channel could never send; raises `Unsupported`."""

    def request(self, bot: Bot, message: Outgoing) -> HttpRequest:
        """The request that sends the message."""

    def outcome(self, status: int, body: bytes) -> Outcome:
        """What the provider's complete answer means; `status` is the HTTP status."""

    def parse(self, body: bytes) -> list[StatusUpdate]:
        """The status reports in one stored webhook. Raises ValueError where it is no webhook of the provider."""
