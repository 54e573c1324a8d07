"""Requests at a steady rate, each of which must be answered: what a deployment's clients send while it changes."""

import contextlib
import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.waiting import HANG_SECONDS

#: Requests per second: enough to meet each restart, and few enough for a machine that is ten times as slow.
RATE = 40
#: Threads that send them, so that one slow answer delays no other request.
THREADS = 40


@dataclass
class Outcomes:
    """The outcomes of the requests."""

    #: HTTP statuses, and names of errors, with their numbers.
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many requests have an outcome."""
        return sum(self.counts.values())


def request(port: int, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Callable[[], str]:
    """A request on a connection of its own, which returns its outcome. It is not repeated."""

    def send() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_SECONDS)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            answer.read()
            return str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()

    return send


@contextlib.contextmanager
def steady_load(*requests: Callable[[], str], rate: float = RATE) -> Iterator[Outcomes]:
    """Within it, `rate` requests leave in every second, these in turn; afterwards all of them have an outcome."""
    outcomes, done, lock = Outcomes(), threading.Event(), threading.Lock()
    turns, began = itertools.count(), time.monotonic()

    def work() -> None:
        while not done.is_set():
            turn = next(turns)
            done.wait(max(began + turn / rate - time.monotonic(), 0))
            outcome = requests[turn % len(requests)]()
            with lock:
                outcomes.counts[outcome] += 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for each in threads:
        each.start()
    try:
        yield outcomes
    finally:
        done.set()
        for each in threads:
            each.join()
