"""A call to a server that nobody needs to wait for."""

import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class BackgroundCall:
    """Makes a call on a thread of its own, and waits a moment for it: in order if the server is well, and if it hangs
    without holding up the caller. Calls while one hangs are dropped."""

    def __init__(self, name: str, call: Callable[[], object], wait_seconds: float) -> None:
        """`call` must have time limits of its own; what it raises is logged."""
        self._name, self._call, self._wait_seconds = name, call, wait_seconds
        self._asked, self._ended = threading.Event(), threading.Event()
        self._ended.set()
        self._thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Make the call. Meant for one caller at a time; another one's call may count for both."""
        if not self._ended.is_set():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        self._ended.clear()
        self._asked.set()
        self._ended.wait(self._wait_seconds)

    def _serve(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            try:
                self._call()
            except Exception as error:
                log.warning("a call in the background failed", call=self._name, reason=str(error))
            self._ended.set()
