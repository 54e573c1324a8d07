"""A circuit breaker: while a server does not answer, callers fail at once instead of waiting in turn for a timeout."""

import threading
import time


class CircuitBreaker:
    """After a timeout, calls are refused for a while; then one at a time tries again."""

    def __init__(self, pause_seconds: float, attempt_seconds: float) -> None:
        """`pause_seconds`: between two attempts; `attempt_seconds`: what an attempt takes at most."""
        self._pause, self._attempt = pause_seconds, attempt_seconds
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._next_attempt = 0.0

    def refusal(self) -> str | None:
        """The reason why a call must not be tried now; None if it may.

        During an outage, None makes the caller the one that tries. The others are refused until its attempt has failed,
        succeeded or timed out.
        """
        if self._reason is None:
            return None
        with self._lock:
            now = time.monotonic()
            if now < self._next_attempt:
                return self._reason
            self._next_attempt = now + self._attempt
            return None

    def begin(self, reason: str) -> None:
        """A call timed out."""
        with self._lock:
            self._reason = reason
            self._next_attempt = time.monotonic() + self._pause

    def end(self) -> None:
        """A call was answered."""
        self._reason = None
