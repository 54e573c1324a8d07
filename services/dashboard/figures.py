"""Figures over time of the overview and of a process, as plots. They need PostgreSQL, which may say why it has none."""

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flask import request

from bisnesctl import formatting
from bisnesctl.series import metrics, reading
from bisnesctl.series.reading import SPANS, Key, Values, Window
from bisnesctl.signals import processes, queues
from bisnesctl.signals.signal import Signal
from bisnesctl.views.process_page import ProcessPage
from services.dashboard import texts
from services.dashboard.context import context
from services.dashboard.plots import MAX_LINES, Line, Plot, Threshold, in_short
from services.database.connection import Connection, DatabaseError, DatabaseUnavailable

#: Programs that send messages, as `process_metrics` names them.
SENDERS = ("meta", "wwebjs", "legacy")
#: Programs whose answers are timed.
ANSWERING = ("api", *SENDERS)
#: Seconds for which the figures of a span are shared by all who look.
SHARED_SECONDS = {"1h": 15.0, "24h": 60.0, "7d": 300.0}

_FLOWS = [("api", "messages_sent", "accepted"), *(
    (process, metric, name)
    for process in SENDERS
    for metric, name in (
        ("messages_sent", "sent"), ("messages_failed", "failed"), ("messages_received", "received")
    )
)]  # fmt: skip
_LATENCIES = [
    (process, metric, name)
    for process in queues.CHANNELS
    for metric, name in ((metrics.LATENCY_P50, "p50"), (metrics.LATENCY_P99, "p99"))
]


@dataclass(frozen=True)
class Found:
    """Series by process and metric, or why there are none."""

    window: Window
    rates: dict[Key, Values]
    gauges: dict[Key, Values]
    failures: dict[str, Values]
    unavailable: str = ""

    def gauge(self, process: str, metric: str, factor: float = 1.0) -> Values:
        """A gauge in another unit."""
        values = self.gauges.get((process, metric), self.window.nothing())
        return [None if each is None else each * factor for each in values]


@dataclass(frozen=True)
class Plots:
    """The plots of a page."""

    span: str
    plots: Sequence[Plot]
    unavailable: str = ""

    #: The spans that can be chosen.
    spans = tuple(SPANS)


def chosen_span() -> str:
    """The span that the request's address names."""
    wanted = request.args.get("span", "")
    return wanted if wanted in SPANS else "1h"


def overview() -> Plots:
    """Messages, latencies, queues and failures of the whole deployment."""
    span = chosen_span()

    def read(connection: Connection, within: Window) -> Found:
        wanted = [(process, metric) for process, metric, _ in _FLOWS]
        channels = [(each, metric) for each in queues.CHANNELS for metric in (
            metrics.QUEUE_WAITING, metrics.QUEUE_OLDEST, metrics.LATENCY_P50, metrics.LATENCY_P99
        )]  # fmt: skip
        answers = [(each, "average_response_time") for each in ANSWERING]
        return Found(
            within, reading.rates(connection, within, wanted),
            reading.gauges(connection, within, [*channels, *answers]),
            reading.failures(connection, within, SENDERS),
        )  # fmt: skip

    found = _shared(("figures", span), span, read)
    plots = [] if found.unavailable else [
        Plot("messages", found.window, _flows(found), in_short),
        Plot("latency", found.window, _named(found, _LATENCIES, 0.001), _seconds),
        Plot("waiting", found.window, _of_channels(found, metrics.QUEUE_WAITING), in_short),
        Plot(
            "oldest", found.window, _of_channels(found, metrics.QUEUE_OLDEST), _seconds, _limits(queues.OUTBOX_OLDEST)
        ),
        Plot("failures", found.window, _failures(found), in_short, _limits(queues.DEAD_LETTERS_GROWTH)),
        Plot("answers", found.window, _answers(found), _seconds, _limits(processes.RESPONSE_TIME)),
    ]  # fmt: skip
    return Plots(span, plots, found.unavailable)


def instance(process: str, page: ProcessPage) -> Plots:
    """Memory and processor time of an instance of this machine, with its restarts. `process`: that it belongs to."""
    span, host = chosen_span(), socket.gethostname()
    memory, cpu = ((process, each(page.name)) for each in (metrics.memory_of, metrics.cpu_of))

    def read(connection: Connection, within: Window) -> Found:
        return Found(within, {}, reading.gauges(connection, within, [memory, cpu], host), {})

    found = _shared(("figures", span, page.name), span, read)
    limit = page.limits.memory_bytes
    thresholds = [Threshold("limit", float(limit))] if limit else []
    if limit:
        shares = _limits(processes.MEMORY_OF_LIMIT)
        thresholds = [*(Threshold(each.kind, each.value * limit) for each in shares), *thresholds]
    marks = [each.at for each in page.history]
    lines = (Line(texts.text("processes.memory"), found.gauge(*memory, 2**20)),)
    plots = [] if found.unavailable else [
        Plot("memory", found.window, lines, lambda value: formatting.size(int(value)), thresholds, marks),
        Plot("cpu", found.window, (Line(texts.text("processes.cpu"), found.gauge(*cpu)),), _percent, (), marks),
    ]  # fmt: skip
    return Plots(span, plots, found.unavailable)


def _shared(key: tuple[str, ...], span: str, read: Callable[[Connection, Window], Found]) -> Found:
    sources = context().sources

    def find() -> Found:
        with sources.connection() as connection:
            return read(connection, reading.window(span))

    try:
        return sources.shared(key, find, SHARED_SECONDS[span])
    except (DatabaseUnavailable, DatabaseError) as error:
        return Found(reading.window(span), {}, {}, {}, str(error).strip() or type(error).__name__)


def _flows(found: Found) -> list[Line]:
    lines = [
        Line(texts.text(f"plots.{name}", process=process), found.rates[process, metric])
        for process, metric, name in _FLOWS
        if (process, metric) in found.rates
    ]
    return [each for each in lines if each.highest][:MAX_LINES] or lines[:MAX_LINES]


def _named(found: Found, wanted: Iterable[tuple[str, str, str]], factor: float) -> list[Line]:
    return [
        Line(f"{process} {name}", found.gauge(process, metric, factor))
        for process, metric, name in wanted
        if (process, metric) in found.gauges
    ]


def _of_channels(found: Found, metric: str) -> list[Line]:
    return [Line(each, found.gauge(each, metric)) for each in queues.CHANNELS if (each, metric) in found.gauges]


def _answers(found: Found) -> list[Line]:
    metric = "average_response_time"
    return [Line(each, found.gauge(each, metric, 0.001)) for each in ANSWERING if (each, metric) in found.gauges]


def _failures(found: Found) -> list[Line]:
    unnamed = texts.text("plots.no_code")
    if not found.failures and found.rates:
        return [Line(texts.text("plots.no_failures"), [0.0] * found.window.count)]
    return [Line(code or unnamed, values) for code, values in found.failures.items()]


def _limits(signal: Signal) -> list[Threshold]:
    """The thresholds of the alert."""
    ranges = ("warning", signal.warning), ("critical", signal.critical)
    return [Threshold(kind, each.high) for kind, each in ranges if each is not None]


def _seconds(value: float) -> str:
    return processes.RESPONSE_TIME.text(value)


def _percent(value: float) -> str:
    return f"{value:.0f} %"
