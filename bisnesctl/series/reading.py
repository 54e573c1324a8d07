"""Reads figures of a span of time, in equal intervals. Each call is one statement whose costs the span bounds."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bisnesctl.database.postgres import Connection, query
from bisnesctl.series import metrics

#: Seconds and intervals of each span.
SPANS: Mapping[str, tuple[int, int]] = {"1h": (3600, 30), "24h": (86400, 48), "7d": (7 * 86400, 56)}
#: Seconds to which the end of a window is rounded, so that it stays for a while.
ROUNDING_SECONDS = 60
#: Seconds without a row of a counter after which nothing is known about the time between.
MAX_GAP_SECONDS = 300.0
#: Codes of errors that are named; the others are one series.
MAX_CODES = 6
#: The name of the other codes.
OTHER = "…"

#: A process and the name of one of its metrics.
Key = tuple[str, str]
#: A value for each interval; None: nothing is known.
Values = list[float | None]

# One look at the index for each counter and edge.
_COUNTERS = """
SELECT wanted.process, wanted.metric, edge, row.at, row.value
FROM unnest(%(processes)s::text[], %(metrics)s::text[]) AS wanted (process, metric)
CROSS JOIN generate_series(0, %(count)s) AS edge
CROSS JOIN LATERAL (
    SELECT extract(epoch FROM timestamp)::float AS at, metric_value::float AS value FROM process_metrics
    WHERE process_name = wanted.process AND metric_name = wanted.metric
        AND timestamp <= to_timestamp(%(begin)s + edge * %(step)s::float)
    ORDER BY timestamp DESC LIMIT 1) row
ORDER BY 1, 2, 3"""
_GAUGES = """
SELECT wanted.process, wanted.metric, found.interval, found.value
FROM unnest(%(processes)s::text[], %(metrics)s::text[]) AS wanted (process, metric)
CROSS JOIN LATERAL (
    SELECT ceil((extract(epoch FROM timestamp) - %(begin)s) / %(step)s)::int - 1 AS interval,
        max(metric_value)::float AS value
    FROM process_metrics
    WHERE process_name = wanted.process AND metric_name = wanted.metric
        AND timestamp > to_timestamp(%(begin)s) AND timestamp <= to_timestamp(%(end)s)
        AND (%(host)s::text IS NULL OR metadata ->> 'host' = %(host)s)
    GROUP BY 1) found"""
_FAILURES = f"""
SELECT COALESCE(metadata ->> 'code', ''), ceil((extract(epoch FROM timestamp) - %(begin)s) / %(step)s)::int - 1,
    sum(metric_value)::float
FROM process_metrics
WHERE process_name = ANY(%(processes)s::text[]) AND metric_name = '{metrics.FAILURES}'
    AND timestamp > to_timestamp(%(begin)s) AND timestamp <= to_timestamp(%(end)s)
GROUP BY 1, 2"""


@dataclass(frozen=True)
class Window:
    """A span of time that ends now, in equal intervals."""

    begin: float
    step: float
    count: int

    @property
    def end(self) -> float:
        """Seconds since the epoch."""
        return self.begin + self.step * self.count

    @property
    def starts(self) -> list[float]:
        """The begin of each interval."""
        return [self.begin + number * self.step for number in range(self.count)]

    def nothing(self) -> Values:
        """A series about which nothing is known."""
        return [None] * self.count


def window(span: str, now: float | None = None) -> Window:
    """The window of a span, one of `SPANS`."""
    seconds, count = SPANS[span]
    end = math.ceil((time.time() if now is None else now) / ROUNDING_SECONDS) * ROUNDING_SECONDS
    return Window(float(end - seconds), seconds / count, count)


def rates(connection: Connection, within: Window, wanted: Sequence[Key]) -> dict[Key, Values]:
    """The growth of counters, a minute. A counter without rows is missing."""
    samples: dict[Key, dict[int, tuple[float, float]]] = {}
    for process, metric, edge, at, value in query(connection, _COUNTERS, _parameters(within, wanted)):
        samples.setdefault((process, metric), {})[edge] = (at, value)
    return {key: growth(within, found) for key, found in samples.items()}


def growth(within: Window, samples: Mapping[int, tuple[float, float]]) -> Values:
    """The growth a minute in each interval, from the last row (its time and value) at each edge of an interval.

    Rows are not written at the edges, so the growth between two of them counts for all intervals between. A counter
    that became smaller has begun again.
    """
    found = within.nothing()
    distinct = [
        (edge, sample)
        for edge, sample in sorted(samples.items())
        if edge == min(samples) or sample != samples.get(edge - 1)
    ]
    for (first, (begin, before)), (last, (end, after)) in pairwise(distinct):
        rate = 60 * (after - before if after >= before else after) / max(end - begin, 1.0)
        is_known = end - begin <= within.step + MAX_GAP_SECONDS
        for interval in range(first if is_known else last - 1, last):
            found[interval] = rate
    return found


def gauges(connection: Connection, within: Window, wanted: Sequence[Key], host: str | None = None) -> dict[Key, Values]:
    """The highest value in each interval. A gauge without rows is missing. `host`: only of this machine."""
    found: dict[Key, Values] = {}
    for process, metric, interval, value in query(connection, _GAUGES, _parameters(within, wanted) | {"host": host}):
        if 0 <= interval < within.count:
            found.setdefault((process, metric), within.nothing())[interval] = value
    return found


def failures(connection: Connection, within: Window, processes: Sequence[str]) -> dict[str, Values]:
    """Failed messages a minute by the code of their error, the most frequent codes first."""
    parameters = _parameters(within, ()) | {"processes": list(processes)}
    totals: dict[str, float] = {}
    rows = [each for each in query(connection, _FAILURES, parameters) if 0 <= each[1] < within.count]
    for code, _, number in rows:
        totals[code] = totals.get(code, 0.0) + number
    named = sorted(totals, key=lambda code: (-totals[code], code))[:MAX_CODES]
    found: dict[str, Values] = {code: [0.0] * within.count for code in named}
    for code, interval, number in rows:
        values = found.setdefault(code if code in named else OTHER, [0.0] * within.count)
        values[interval] = (values[interval] or 0.0) + 60 * number / within.step
    return found


def _parameters(within: Window, wanted: Sequence[Key]) -> dict[str, object]:
    return {
        "begin": within.begin, "end": within.end, "step": within.step, "count": within.count,
        "processes": [process for process, _ in wanted], "metrics": [metric for _, metric in wanted],
    }  # fmt: skip
