"""Measures what everything costs while nothing happens, and how quickly the tool answers."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.bench import graph, tools, usage
from tests.bench.sides import Ours, Side, running
from tests.bench.stage import Stage

#: Messages that are sent before, so that every process has its connections and has done its work once.
WARM_UP_MESSAGES = 300
#: Seconds that everything then has to settle.
SETTLE_SECONDS = 30.0
#: Calls of each command of the tool, of which the median counts.
CALLS = 5
#: The commands of the tool that are timed.
COMMANDS = {"help": ("--help",), "version": ("--version",)}


@dataclass(slots=True)
class Resting:
    """One side once: its figures by name, and the memory of its processes in MiB."""

    figures: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)


def measure_side(side: Side, stage: Stage, seconds: float) -> Resting:
    """Starts a side on fresh data, lets it work for a moment, and watches it rest."""
    with running(side, stage):
        _warm_up(side, stage)
        time.sleep(SETTLE_SECONDS)
        app, servers, woken = _watch(side, stage, seconds)
        memory = _memory(side)
    figures = {
        "idle_percent": 100 * (app + servers) / seconds,
        "idle_processes_percent": 100 * app / seconds,
        "idle_wakeups": woken / seconds,
        "memory_mib": sum(memory.values()),
    }
    return Resting(figures, memory)


def _warm_up(side: Side, stage: Stage) -> None:
    stage.graph.reset()
    graph.post(tools.build("loadgen"), side.port, graph.Order(WARM_UP_MESSAGES, 0, 8, 0))
    deadline = time.monotonic() + SETTLE_SECONDS
    while stage.graph.count() < WARM_UP_MESSAGES and time.monotonic() < deadline:
        time.sleep(0.1)


def _watch(side: Side, stage: Stage, seconds: float) -> tuple[float, float, int]:
    """Processor seconds of the processes and of the servers, and how often the processes were woken."""
    own, servers = side.processes(), stage.servers
    before = usage.cpu_seconds(own), usage.cpu_seconds(servers), usage.wakeups(own)
    time.sleep(seconds)
    after = usage.cpu_seconds(own), usage.cpu_seconds(servers), usage.wakeups(own)
    return after[0] - before[0], after[1] - before[1], after[2] - before[2]


def _memory(side: Side) -> dict[str, float]:
    found: dict[str, float] = {}
    for process in usage.tree(side.processes()):
        label = side.label(process)
        found[label] = found.get(label, 0.0) + usage.pss_mib(process)
    return found


def measure_commands(python: Path, home: Path) -> dict[str, float]:
    """Seconds that commands of the tool take which need no deployment: the median of several calls."""
    return {name: median(_timed(python, words, home) for _ in range(CALLS)) for name, words in COMMANDS.items()}


def _timed(python: Path, words: Sequence[str], home: Path) -> float:
    began = time.perf_counter()
    subprocess.run([python.parent / "bisnesctl", *words], cwd=home, capture_output=True, check=True, timeout=60)
    return time.perf_counter() - began


def whole_deployment(stage: Stage) -> Ours:
    """A deployment with the defaults: all channels, two processes of the API and two workers."""
    return Ours(stage.folder, 2, 2, name="default", with_web=True)


def measure(
    sides: Sequence[Side], stage: Stage, rounds: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, list[Resting]]:
    """Every side in turn. `tell` is called with the name of each step."""
    found: dict[str, list[Resting]] = {side.name: [] for side in sides}
    for turn in range(rounds):
        for side in sides if turn % 2 == 0 else sides[::-1]:
            tell(f"round {turn + 1} of {rounds}: {side.name}")
            found[side.name].append(measure_side(side, stage, seconds))
    return found
