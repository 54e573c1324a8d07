"""A request by HTTP, and its end. Programs that send none need not load libcurl with `services.http_client`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.message import Outcome


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One POST that sends one message."""

    url: str
    headers: tuple[str, ...] = field(repr=False)  # "Name: value" lines; one of them holds the credential
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """A complete answer."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """No complete answer.

    `handed`: whether the socket took any byte of the request; `status`: the answer's, if its head came, and 0
    otherwise; `internal`: the fault is this process's, not the network's or the server's.
    """

    reason: str
    handed: bool
    status: int = 0
    internal: bool = False


class InFlight(Protocol):
    """The requests of a delivery: at most `size` are in flight."""

    size: int
    in_flight: int

    def submit(self, ticket: Any, request: Any, leaving: Callable[[], None]) -> None:
        """Send a request of the kind that the channel's connector makes. `leaving` is called before it may be sent."""

    def poll(self, seconds: float) -> Sequence[tuple[Any, Answered | Broken | Outcome | None]]:
        """Wait up to `seconds` and return the requests that ended, each with its ticket and its end.

        An answer is for the connector to understand; None means that no attempt was made.
        """

    def interrupt(self) -> None:
        """End a wait that is under way, or the next one. Safe for any thread."""
