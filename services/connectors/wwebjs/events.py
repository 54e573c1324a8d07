"""What the page tells, in its order and once: events come over our connection, which may break and be made anew."""

import json
import queue
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PageEvent:
    """What a page tells."""

    boot: str  # the page's life: another one after each load
    seq: int  # its number in that life, from 1
    at: float  # when it was told: seconds since the epoch
    name: str  # as wa-js has it, `bridge.loaded` for a page that was loaded, `bridge.missed` for a gap
    data: Any  # JSON


@dataclass(frozen=True, slots=True)
class Lost:
    """The page, or its browser, is gone for good: another browser must be launched."""

    reason: str


class Feed:
    """Puts events in order. All but `position` is for the thread that reads the connection."""

    def __init__(self, events: "queue.Queue[PageEvent | Lost]") -> None:
        """`events` takes them."""
        self._events = events
        self.position = ("", 0)  # the page's life, and the number of the last event in it
        self._held: list[PageEvent] | None = None

    def hold(self) -> None:
        """Keep what comes until it is known what was missed."""
        self._held = self._held or []

    @property
    def holding(self) -> bool:
        """Whether it is kept."""
        return self._held is not None

    def release(self, missed: list[dict[str, Any]]) -> None:
        """Pass on what was `missed`, then what was kept."""
        held, self._held = self._held or [], None
        for event in [*map(_event, missed), *held]:
            self._pass(event)

    def take(self, payload: str) -> bool:
        """An event of the page; whether those before it must be asked for, as they did not come."""
        event = _event(json.loads(payload))
        if self._held is None and not self._follows(event):
            self._held = []
        if self._held is not None:
            self._held.append(event)
            return len(self._held) == 1
        self._pass(event)
        return False

    def _follows(self, event: PageEvent) -> bool:
        boot, seq = self.position
        return event.seq <= (seq if event.boot == boot else 0) + 1

    def _pass(self, event: PageEvent) -> None:
        boot, seq = self.position
        if event.boot == boot and event.seq <= seq:
            return
        if not self._follows(event):
            missed = event.seq - 1 - (seq if event.boot == boot else 0)
            self._events.put(PageEvent(event.boot, event.seq - 1, event.at, "bridge.missed", {"count": missed}))
        self.position = (event.boot, event.seq)
        self._events.put(event)


def _event(told: dict[str, Any]) -> PageEvent:
    return PageEvent(told["boot"], told["seq"], told["at"], told["name"], told["data"])
