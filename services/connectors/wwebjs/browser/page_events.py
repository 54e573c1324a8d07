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
    """Puts events in order. Only one thread may use it at a time."""

    def __init__(self, events: "queue.Queue[PageEvent | Lost]") -> None:
        """`events` takes them."""
        self._events = events
        self.position = ("", 0)  # the page's life, and the number of the last event in it
        self._held: list[PageEvent] | None = None

    def hold(self) -> None:
        """Keep what comes until `release` tells what was missed."""
        self._held = self._held or []

    def take(self, payload: str) -> bool:
        """An event as the page wrote it; whether the page must be asked for those before it, as they did not come."""
        event = _event(json.loads(payload))
        if self._held is None and self._follows(event):
            self._pass(event)
            return False
        asked_already = self._held is not None
        self._held = [*(self._held or []), event]
        return not asked_already

    def release(self, missed: list[dict[str, Any]]) -> None:
        """Pass on what the page says was `missed` of its present life, and what was kept meanwhile."""
        held, self._held = self._held or [], None
        found = [_event(each) for each in missed]
        earlier = [each for each in held if found and each.boot != found[0].boot]
        later = [each for each in held if each not in earlier]
        for event in [*earlier, *found, *later]:
            self._pass(event)

    def _follows(self, event: PageEvent) -> bool:
        return event.seq <= self._last(event) + 1

    def _last(self, event: PageEvent) -> int:
        """The number of the last event that was passed on of the same life."""
        boot, seq = self.position
        return seq if event.boot == boot else 0

    def _pass(self, event: PageEvent) -> None:
        last = self._last(event)
        if event.seq <= last:
            return
        if event.seq > last + 1:
            missed = {"count": event.seq - 1 - last}
            self._events.put(PageEvent(event.boot, event.seq - 1, event.at, "bridge.missed", missed))
        self.position = (event.boot, event.seq)
        self._events.put(event)


def _event(told: dict[str, Any]) -> PageEvent:
    return PageEvent(told["boot"], told["seq"], told["at"], told["name"], told["data"])
