"""The arithmetic of the benchmark: pure functions over the mock's dump and the runs' figures."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: As in loadgen.c: message n goes from company 1 + n % COMPANIES to chat n % CHATS.
COMPANIES = 20
CHATS = 1000
FIRST_CHAT = 15550000000
FIRST_PHONE_NUMBER_ID = 100001


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it reached the Graph mock; times are microseconds since the epoch."""

    number: int
    due_us: int  # when the load generator was to post it
    at_us: int
    phone_number_id: int
    chat: int

    @property
    def latency_ms(self) -> float:
        """From the moment the POST was due to the arrival at Graph."""
        return (self.at_us - self.due_us) / 1000

    @property
    def astray(self) -> bool:
        """Whether it left by another number, or for another chat, than it was posted for."""
        wanted = (FIRST_PHONE_NUMBER_ID + self.number % COMPANIES, FIRST_CHAT + self.number % CHATS)
        return (self.phone_number_id, self.chat) != wanted


@dataclass(frozen=True, slots=True)
class Faults:
    """Counts of messages that were lost, duplicated, out of order or astray."""

    lost: int = 0
    doubled: int = 0
    disordered: int = 0  # came after a later message of the same chat
    astray: int = 0

    def __add__(self, other: "Faults") -> "Faults":
        return Faults(
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.disordered + other.disordered,
            self.astray + other.astray,
        )


def parse_dump(text: str) -> list[Arrival]:
    """The mock's dump, in order of arrival. Raises ValueError on a line that is none of it."""
    return [_parse_line(line) for line in text.splitlines()]


def _parse_line(line: str) -> Arrival:
    fields = line.split()
    if len(fields) != 5:
        raise ValueError(f"not a line of the mock's dump: {line!r}")
    return Arrival(*map(int, fields))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def count_faults(arrivals: Iterable[Arrival], accepted: int) -> Faults:
    """Compare what arrived with how many were accepted."""
    seen: Counter[int] = Counter()
    latest: dict[int, int] = {}
    disordered = astray = 0
    for arrival in arrivals:
        seen[arrival.number] += 1
        if seen[arrival.number] > 1:
            continue
        astray += arrival.astray
        disordered += arrival.number < latest.get(arrival.chat, -1)
        latest[arrival.chat] = max(arrival.number, latest.get(arrival.chat, -1))
    return Faults(max(0, accepted - len(seen)), seen.total() - len(seen), disordered, astray)


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds; a figure that a round lacks is left out of its median."""
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: statistics.median([one[name] for one in rounds if name in one]) for name in names}
