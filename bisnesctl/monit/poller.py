"""Reads again and again on a thread, so that a screen never waits for what it shows."""

import threading
from collections.abc import Callable


class Poller:
    """A thread of its own that calls `read`, at once and then every few seconds."""

    def __init__(self, read: Callable[[], None], seconds: float, failed: Callable[[str], None]) -> None:
        """`failed`: is called with the reason if `read` raises."""
        self._read, self._seconds, self._failed = read, seconds, failed
        self._wanted, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Asks for the next read now."""
        self._wanted.set()

    def stop(self) -> None:
        """Ends the thread after its current read; does not wait for it."""
        self._ended = True
        self._wanted.set()

    def _run(self) -> None:
        while not self._ended:
            self._wanted.clear()
            try:
                self._read()
            except Exception as error:
                if not self._ended:
                    self._failed(str(error) or type(error).__name__)
            self._wanted.wait(self._seconds)
