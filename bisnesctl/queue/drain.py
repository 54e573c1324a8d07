"""Waiting until nothing waits: the progress, its rate, and what blocks it."""

import time
from collections.abc import Callable

from bisnesctl.bots import causes
from bisnesctl.database.postgres import Connection
from bisnesctl.formatting import duration
from bisnesctl.queue import stats, targets
from bisnesctl.queue.stats import BotCounts

#: Seconds between two looks.
POLL_SECONDS = 1.0
#: Seconds of the progress that the rate is of.
RATE_SECONDS = 30.0
#: Bots that are named as blocked, at most.
MAX_BLOCKERS = 10


class Drain:
    """The messages of a bot, a company, a channel or all, while they leave."""

    def __init__(self, connection: Connection, name: str) -> None:
        """Raises `UsageError` if there are no such bots."""
        self._connection = connection
        self._bots = targets.named(connection, name)
        self._began = time.monotonic()
        self._seen: list[tuple[float, int]] = []  # when, and how many were left
        self._total = 0  # finished since the beginning
        self.left = 0
        self.blockers: list[str] = []  # why messages wait, a line for each bot

    def run(self, seconds: float | None, report: Callable[["Drain"], None]) -> bool:
        """Waits until nothing is left; False if some is after `seconds`. Reports after each look."""
        end = None if seconds is None else self._began + seconds
        while True:
            self._look()
            if not self.left:
                return True
            report(self)
            now = time.monotonic()
            if end is not None and now >= end:
                return False
            time.sleep(POLL_SECONDS if end is None else max(0.0, min(POLL_SECONDS, end - now)))

    @property
    def rate(self) -> float:
        """The messages by which the rest has shrunk in a second, recently."""
        (first, most), (last, left) = self._seen[0], self._seen[-1]
        return (most - left) / (last - first) if last > first else 0.0

    @property
    def left_text(self) -> str:
        """How many are left, in words."""
        return "1 message is left" if self.left == 1 else f"{self.left} messages are left"

    @property
    def progress(self) -> str:
        """How far it is, in a line."""
        rate = self.rate
        if len(self._seen) == 1:
            return self.left_text
        if rate <= 0:
            return f"{self.left_text}; none fewer in the last {duration(self._seen[-1][0] - self._seen[0][0])}"
        return f"{self.left_text}; {rate:.1f} a second; {duration(self.left / rate)} to go"

    @property
    def summary(self) -> str:
        """How many left, and in which time."""
        return f"{self._total} left in {duration(time.monotonic() - self._began)}"

    def _look(self) -> None:
        now = time.monotonic()
        ids = {(each.company, each.phone): each.id for each in self._bots}
        companies = {each.company for each in self._bots}
        only = companies.pop() if len(companies) == 1 else None
        counts = [each for each in stats.of_bots(self._connection, only) if (each.company, each.phone) in ids]
        left = sum(each.counts.left for each in counts)
        self._total += max(self.left - left, 0)
        self.left = left
        self._seen = [each for each in self._seen if each[0] >= now - RATE_SECONDS]
        self._seen.append((now, left))
        self.blockers = self._blocked([each for each in counts if each.counts.left], ids)

    def _blocked(self, counts: list[BotCounts], ids: dict[tuple[str, int], int]) -> list[str]:
        situations = causes.situations(self._connection, [ids[each.company, each.phone] for each in counts])
        lines = []
        for each in counts:
            name = f"{each.company}/{each.phone}"
            situation = situations.get(ids[each.company, each.phone])  # None: the bot was removed meanwhile
            if situation is not None and (found := next(causes.causes_of(situation), None)):
                text, command = found.text, found.command
                lines.append(f"{name} ({each.counts.left}): {text}{f' (`{command}`)' if command else ''}")
            elif each.counts.delayed == each.counts.left:
                lines.append(f"{name} ({each.counts.left}): they wait for their next attempts (`bisnesctl queue list`)")
        more = len(lines) - MAX_BLOCKERS
        return [*lines[:MAX_BLOCKERS], f"and {more} more bots"] if more > 0 else lines
