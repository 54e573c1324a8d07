"""The interface through which a process wakes the workers of a queue."""

from typing import Protocol


class Notifier(Protocol):
    """Whoever tells the workers of a queue that there is work."""

    def notify(self, queue_name: str) -> None:
        """There is work; never raises, never waits."""
