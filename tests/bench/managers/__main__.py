"""`scripts/compare-pm2`: measures our manager and PM2 in turn, and prints the medians and the best rounds."""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from bisnesctl.guard.guard import CHECK_INTERVAL_SECONDS
from bisnesctl.host.process_stat import is_alive
from tests.bench import usage
from tests.bench.__main__ import in_order_of_round
from tests.bench.managers import memory_limit
from tests.bench.managers.pm2_tool import STOP_SIGNAL, Pm2Tool, find_npm, install
from tests.bench.managers.sides import SERVING, Bisnesctl, Manager, Pm2, programs, row_of, wait_until_serving
from tests.bench.stage import Stage, stage
from tests.bench.tools import MissingTool

#: The program that is killed.
KILLED = "meta-worker-1"
#: A program that lived shorter is restarted with a longer pause.
MINIMUM_UPTIME_SECONDS = 10.0
#: How long a killed program may take to get a new pid, and everything to end.
TIMEOUT_SECONDS = 60.0
#: Seconds between two looks for the new pid.
LOOK_SECONDS = 0.002
#: Calls of `status` in a round, of which the median counts.
STATUS_CALLS = 3
MEASURES = {
    "status": "status, as a command (s)",
    "kill": "SIGKILL to new pid (s)",
    "restart": f"restart {SERVING}, until it serves (s)",
    "returns": "… until the command returns (s)",
    "stop": "stop all, until all has ended (s)",
    "memory": "memory of the manager (MiB)",
    "shims": "… with shims around programs (MiB)",
}
LIMITS = {
    "itself": "restarts a program over its limit",
    "child": "… a program whose child is over it",
}
#: The meaning of the rows, where it is not plain.
NOTES = (
    f"SIGKILL: of {KILLED}, without its restart delay of {row_of(KILLED).restart_delay:g} s. "
    "restart: bisnesctl returns when the new process is healthy, PM2 when it exists. "
    "stop: the manager included. memory: supervisord and the guard; PM2's daemon. Files that several processes of the "
    "run use are divided among them.",
    f"limit: {memory_limit.LIMIT_MIB} MiB of memory, {memory_limit.HELD_MIB} MiB are held; checked by bisnesctl every "
    f"{CHECK_INTERVAL_SECONDS:g} s, by PM2 every {memory_limit.PM2_INTERVAL_MS / 1000:g} s here.",
)

progress = Console(stderr=True)


@dataclass(frozen=True)
class Comparison:
    """The results."""

    #: Manager → its rounds.
    rounds: dict[str, list[dict[str, float]]]
    #: Manager → which of the programs of `memory_limit` it restarts.
    limits: dict[str, dict[str, bool]]
    #: The names of the programs that both ran.
    programs: list[str]


def seconds_of(action: Callable[[], None]) -> float:
    """How long an action takes."""
    start = time.monotonic()
    action()
    return time.monotonic() - start


def kill(manager: Manager) -> float:
    """Seconds from SIGKILL until the program has a new pid, without its restart delay."""
    killed = programs(manager)[KILLED]
    time.sleep(max(MINIMUM_UPTIME_SECONDS + 1 - (time.time() - killed.create_time()), 0))
    start = time.monotonic()
    killed.kill()
    while time.monotonic() - start < TIMEOUT_SECONDS:
        fresh = programs(manager).get(KILLED)
        if fresh is not None and fresh.pid != killed.pid:
            return time.monotonic() - start - row_of(KILLED).restart_delay
        time.sleep(LOOK_SECONDS)
    raise RuntimeError(f"{manager.name} did not restart {KILLED}")


def restart(manager: Manager) -> dict[str, float]:
    """Seconds until a restart serves, and until its command returns."""
    start = time.monotonic()
    manager.restart(SERVING)
    returned = time.monotonic()
    wait_until_serving(manager)
    return {"restart": time.monotonic() - start, "returns": returned - start}


def stop(manager: Manager) -> None:
    """Stops everything and waits until it has ended."""
    alive = {each.pid for each in usage.tree([manager.daemon()])}
    manager.stop()
    end = time.monotonic() + TIMEOUT_SECONDS
    while alive := {pid for pid in alive if is_alive(pid)}:  # a zombie, which init may be slow to reap, has ended
        if time.monotonic() > end:
            raise RuntimeError(f"{manager.name} left {alive}")
        time.sleep(LOOK_SECONDS)


def measure(manager: Manager) -> dict[str, float]:
    """One round of a manager: it starts, is measured, and stops."""
    manager.start()
    wait_until_serving(manager)
    found = {"kill": kill(manager)}  # it waits first, so that every program has settled
    found["status"] = statistics.median(seconds_of(manager.status) for _ in range(STATUS_CALLS))
    found |= restart(manager)
    everybody, own = usage.tree([manager.daemon()]), manager.own_processes()
    found["memory"] = usage.shares_mib(own, everybody)
    found["shims"] = usage.shares_mib([*own, *manager.wrappers()], everybody)
    found["stop"] = seconds_of(lambda: stop(manager))
    return found


def compare(rounds: int) -> Comparison:
    """Every round of both managers. Raises `MissingTool`."""
    find_npm()  # before anything is started
    with stage() as ready, contextlib.ExitStack() as stack:
        pm2 = install(ready.folder / "pm2")
        ours = Bisnesctl(ready)
        stack.callback(ours.close)
        ours.start()
        commands = ours.commands()
        theirs = Pm2(Pm2Tool(pm2, ready.folder / "pm2-home"), commands)
        ours.stop()
        stack.callback(theirs.close)
        found: dict[str, list[dict[str, float]]] = {ours.name: [], theirs.name: []}
        managers: list[Manager] = [ours, theirs]
        for turn in range(rounds):
            for manager in in_order_of_round(managers, turn):
                found[manager.name].append(measure(manager))
                progress.print(f"round {turn + 1} of {rounds}: {manager.name}", found[manager.name][-1])
        return Comparison(found, _limits(ready, pm2), list(commands))


def _limits(stage: Stage, pm2: Path) -> dict[str, dict[str, bool]]:
    folders = {name: stage.folder / f"memory-{name}" for name in (Bisnesctl.name, Pm2.name)}
    for folder in folders.values():
        folder.mkdir()
    return {
        Bisnesctl.name: memory_limit.bisnesctl_restarts(folders[Bisnesctl.name], stage.database.dsn()),
        Pm2.name: memory_limit.pm2_restarts(folders[Pm2.name], pm2),
    }


def show(found: Comparison) -> None:
    """Prints the medians, and the best rounds: on a busy machine, only these were hardly disturbed."""
    names = list(found.rounds)
    table = Table("median, best", *names, *(f"{name}, best" for name in names), box=None, pad_edge=False)
    for measure, title in MEASURES.items():
        values = [[each[measure] for each in rounds] for rounds in found.rounds.values()]
        table.add_row(title, *(f"{figure(each):.3g}" for figure in (statistics.median, min) for each in values))
    for hog, title in LIMITS.items():
        table.add_row(title, *("yes" if found.limits[name][hog] else "no" for name in names))
    rounds = len(next(iter(found.rounds.values())))
    out = Console()
    out.print(table)
    out.print(
        f"{rounds} rounds of each, in turn; both run {', '.join(found.programs)} and stop them with {STOP_SIGNAL}; "
        f"{psutil.cpu_count()} processors, load {psutil.getloadavg()[0]:.1f} at the end"
    )
    for note in NOTES:
        out.print(note)


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
