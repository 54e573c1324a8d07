"""`scripts/compare-pm2`: measures our manager and PM2 in turn, and prints the medians."""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from tests.bench.__main__ import in_order_of_round
from tests.bench.managers.sides import RESTART_DELAYS_MS, SERVING, Bisnesctl, Manager, Pm2, find_npm, program
from tests.bench.stage import stage
from tests.bench.tools import MissingTool

#: The program that is killed.
KILLED = "meta-worker-1"
#: A program that lived shorter is restarted with a longer pause.
MINIMUM_UPTIME_SECONDS = 10.0
#: How long a killed program may take to get a new pid.
NEW_PID_SECONDS = 60.0
#: Seconds between two looks for the new pid.
LOOK_SECONDS = 0.002
MEASURES = {
    "status": "status, as a command (s)",
    "kill": f"SIGKILL to new pid, without the restart delay of {RESTART_DELAYS_MS[KILLED] / 1000:g} s (s)",
    "restart": "restart one, until it serves (s)",
    "stop": "stop all, manager included (s)",
    "memory": "memory of the manager, PSS (MiB)",
}

progress = Console(stderr=True)


def seconds_of(action: Callable[[], None]) -> float:
    """How long an action takes."""
    start = time.monotonic()
    action()
    return time.monotonic() - start


def kill(manager: Manager) -> float:
    """Seconds from SIGKILL until the program has a new pid, without its restart delay."""
    killed = program(manager, KILLED)
    if killed is None:
        raise RuntimeError(f"{KILLED} does not run under {manager.name}")
    lived = time.time() - killed.create_time()
    time.sleep(max(MINIMUM_UPTIME_SECONDS + 1 - lived, 0))
    start = time.monotonic()
    killed.kill()
    while time.monotonic() - start < NEW_PID_SECONDS:
        fresh = program(manager, KILLED)
        if fresh is not None and fresh.pid != killed.pid:
            return time.monotonic() - start - RESTART_DELAYS_MS[KILLED] / 1000
        time.sleep(LOOK_SECONDS)
    raise RuntimeError(f"{manager.name} did not restart {KILLED}")


def measure(manager: Manager) -> dict[str, float]:
    """One round of a manager: it starts, is measured, and stops."""
    manager.start()
    found = {"status": seconds_of(manager.status), "kill": kill(manager)}
    found["restart"] = seconds_of(lambda: manager.restart(SERVING))
    found["memory"] = manager.memory_mib()
    found["stop"] = seconds_of(manager.stop)
    return found


def compare(rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every round of both managers. Raises `MissingTool`."""
    find_npm()  # before anything is started
    with stage() as ready, contextlib.ExitStack() as stack:
        ours = Bisnesctl(ready)
        stack.callback(ours.close)
        ours.start()
        theirs = Pm2(ready.folder, ours.commands())
        ours.stop()
        stack.callback(theirs.close)
        found: dict[str, list[dict[str, float]]] = {ours.name: [], theirs.name: []}
        managers: list[Manager] = [ours, theirs]
        for turn in range(rounds):
            for manager in in_order_of_round(managers, turn):
                found[manager.name].append(measure(manager))
                progress.print(f"round {turn + 1} of {rounds}: {manager.name}", found[manager.name][-1])
    return found


def show(found: dict[str, list[dict[str, float]]]) -> None:
    """Prints the medians."""
    table = Table("median", *found, box=None, pad_edge=False)
    for measure, title in MEASURES.items():
        table.add_row(
            title, *(f"{statistics.median(each[measure] for each in rounds):.3g}" for rounds in found.values())
        )
    out = Console()
    out.print(table)
    out.print(f"{psutil.cpu_count()} processors, load {psutil.getloadavg()[0]:.1f} at the end")


def main(
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Rounds of each manager, in turn.")] = 5,
) -> None:
    """Compare our manager of processes with PM2: the same programs with the same restart delays, in turn."""
    try:
        show(compare(rounds))
    except MissingTool as error:
        progress.print(f"compare-pm2: {error}", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
