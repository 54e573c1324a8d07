"""One side measured once: warmed up, saturated, at two steady rates, and with a slow provider."""

import math
import time
from dataclasses import dataclass, field

import psycopg2.extensions

from tests.bench import graph, tools, usage
from tests.bench.figures import Arrival, Faults, count_faults, percentile
from tests.bench.sides import Side, running
from tests.bench.stage import Stage

Connection = psycopg2.extensions.connection


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; everything is bounded in count and in time."""

    messages: int = 10_000  # in the saturated run
    warm_up: int = 3_000
    connections: int = 32
    rate: float = 50  # messages a second in the steady run
    rate_seconds: float = 20
    low_rate: float = 1  # messages a second in another steady run
    low_rate_seconds: float = 20
    graph_delay_ms: float = 0
    distant_delay_ms: float = 50  # of Graph, in another saturated run; 0: without that run
    distant_messages: int = 2_000
    drain_seconds: float = 180  # that a run may take from its last answer to its last outcome


@dataclass(slots=True)
class Measured:
    """The figures of one side in one round, by name, and what went wrong with messages."""

    figures: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)  # MiB, by process
    faults: Faults = field(default_factory=Faults)


@dataclass(frozen=True, slots=True)
class Run:
    """One load, from its first request to its last outcome."""

    load: graph.Load
    arrivals: list[Arrival]
    cpu: usage.Cpu

    @property
    def faults(self) -> Faults:
        return count_faults(self.arrivals, self.load.accepted)

    @property
    def sent_per_second(self) -> float:
        """End to end: from the first POST to the last arrival."""
        if not self.arrivals:
            return 0.0
        return len(self.arrivals) / ((self.arrivals[-1].at_us - self.load.started_us) / 1e6)

    @property
    def count(self) -> float:
        """Messages that arrived; NaN if none did."""
        return len(self.arrivals) or math.nan

    @property
    def cpu_ms_per_message(self) -> float:
        """Of the processes and both servers."""
        return (self.cpu.app + self.cpu.servers) * 1000 / self.count

    def latency_ms(self, share: float) -> float:
        return percentile([arrival.latency_ms for arrival in self.arrivals], share)


class Meter:
    """Runs loads against a side that is up."""

    def __init__(self, side: Side, stage: Stage, connection: Connection, plan: Plan) -> None:
        self._side = side
        self._stage = stage
        self._connection = connection
        self._plan = plan
        self._loadgen = tools.build("loadgen")
        self._first = 0

    def run(self, count: int, rate: float = 0) -> Run:
        """Post `count` messages and wait until their outcomes are written down."""
        self._stage.graph.reset()
        before = self.cpu()
        order = graph.Order(count, self._first, self._plan.connections, rate)
        self._first += count
        load = graph.post(self._loadgen, self._side.port, order)
        self._drain(load.accepted)
        spent = self.cpu() - before
        return Run(load, self._stage.graph.arrivals(), spent)

    def cpu(self) -> usage.Cpu:
        """The CPU time of the side and the servers so far."""
        return usage.Cpu(usage.cpu_seconds(self._side.processes()), usage.cpu_seconds(self._stage.servers))

    def _drain(self, accepted: int) -> None:
        end = time.monotonic() + self._plan.drain_seconds
        while time.monotonic() < end and (self._stage.graph.count() < accepted or self._waiting()):
            time.sleep(0.05)

    def _waiting(self) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(self._side.waiting_sql)
            return int((cursor.fetchone() or (0,))[0])

    def memory(self) -> dict[str, float]:
        """MiB of each process of the side; several of one label are added up."""
        found: dict[str, float] = {}
        for process in usage.tree(self._side.processes()):
            label = self._side.label(process)
            found[label] = found.get(label, 0) + usage.pss_mib(process)
        return found


def measure(side: Side, stage: Stage, plan: Plan) -> Measured:
    """Start the side on fresh data, measure it, stop it."""
    stage.graph.delay(plan.graph_delay_ms)
    with running(side, stage) as database_url, stage.connect(database_url) as connection:
        meter = Meter(side, stage, connection, plan)
        meter.run(plan.warm_up)
        saturated = meter.run(plan.messages)
        memory = meter.memory()
        steady = meter.run(int(plan.rate * plan.rate_seconds), plan.rate)
        low = meter.run(int(plan.low_rate * plan.low_rate_seconds), plan.low_rate)
        runs = [saturated, steady, low]
        figures = _figures(saturated, steady, low, memory)
        if plan.distant_delay_ms:
            stage.graph.delay(plan.distant_delay_ms)
            runs.append(distant := meter.run(plan.distant_messages))
            figures |= _distant_figures(distant)
    return Measured(figures, memory, sum((run.faults for run in runs), Faults()))


def _figures(saturated: Run, steady: Run, low: Run, memory: dict[str, float]) -> dict[str, float]:
    return {
        "accepted_per_second": saturated.load.accepted_per_second,
        "sent_per_second": saturated.sent_per_second,
        "latency_p50_ms": steady.latency_ms(0.5),
        "latency_p99_ms": steady.latency_ms(0.99),
        "cpu_app_per_1000": saturated.cpu.app / saturated.count * 1000,
        "cpu_all_per_1000": saturated.cpu_ms_per_message,
        "cpu_ms_per_message_steady": steady.cpu_ms_per_message,
        "cpu_ms_per_message_low": low.cpu_ms_per_message,
        "memory_mib": sum(memory.values()),
    }


def _distant_figures(run: Run) -> dict[str, float]:
    return {"distant_per_second": run.sent_per_second, "distant_cpu_per_1000": run.cpu_ms_per_message}
