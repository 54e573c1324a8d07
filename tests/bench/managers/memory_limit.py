"""The memory limit of a program: whether each manager restarts one that exceeds it, and one whose child does.

That the first is restarted proves that the limit is in force. The second is the usual case: a browser, or a worker
below gunicorn's master.
"""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bisnesctl.database.process_events import ProcessEventWriter
from bisnesctl.guard.guard import Guard
from bisnesctl.guard.state_file import GuardState
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import Instance, Program
from tests.bench.managers.pm2_tool import Pm2Tool
from tests.support.processes.servers import settings_in
from tests.support.processes.supervisord import supervised

LIMIT_MIB, HELD_MIB = 100, 200
#: Seconds in which a manager must restart a program: several of its checks.
TIMEOUT_SECONDS = 20.0
#: Milliseconds between two checks of PM2; its default is 30,000.
PM2_INTERVAL_MS = 2000
#: Seconds between two looks at the pids.
LOOK_SECONDS = 0.1
_HOLD = f"held = b'x' * ({HELD_MIB} << 20)"
#: The programs that hold memory → their code.
HOGS = {
    "itself": f"import time\n{_HOLD}\ntime.sleep(1000)",
    "child": f"import os, time\nif os.fork() == 0:\n    {_HOLD}\ntime.sleep(1000)",
}


def bisnesctl_restarts(folder: Path, database_url: str) -> dict[str, bool]:
    """Whether our manager restarts each of these programs."""
    settings = settings_in(folder, DATABASE_URL=database_url)
    sections = "".join(
        f"\n[program:{name}]\ncommand = {sys.executable} {file}\nautostart = false\nautorestart = false\n"
        "startsecs = 0\nstartretries = 0\nstopasgroup = true\nkillasgroup = true\n"
        for name, file in _files(folder).items()
    )
    with supervised(settings, sections) as supervisor, _guarded(_Hogs(settings, supervisor)):
        for name in HOGS:
            supervisor.start(f"{name}:{name}")
        return _restarted(lambda: {name: supervisor.processes()[name].pid for name in HOGS})


def pm2_restarts(folder: Path, command: Path) -> dict[str, bool]:
    """The same of PM2."""
    tool = Pm2Tool(command, folder / "pm2-home", PM2_WORKER_INTERVAL=str(PM2_INTERVAL_MS))
    apps = [
        {"name": name, "script": str(file), "interpreter": sys.executable, "max_memory_restart": f"{LIMIT_MIB}M"}
        for name, file in _files(folder).items()
    ]
    try:
        tool.start(apps)
        return _restarted(lambda: _pids_below(tool.daemon(), folder))
    finally:
        tool.end()


class _Hogs(Deployment):
    """A deployment of these programs."""

    @property
    def instances(self) -> list[Instance]:
        return [Instance(name, Program(name, "", "", memory=LIMIT_MIB, restart_delay=0.5), name) for name in HOGS]


@contextlib.contextmanager
def _guarded(deployment: Deployment) -> Iterator[None]:
    """Within it, the guard is on duty."""
    settings, ended = deployment.settings, threading.Event()
    process_events = ProcessEventWriter(settings.home / "spool.jsonl", settings.database_dsn)
    process_events.start()
    guard = Guard(deployment, GuardState(), process_events)

    def work() -> None:
        while not ended.is_set():
            guard.run_once(queue.SimpleQueue())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _files(folder: Path) -> dict[str, Path]:
    """The programs, written to files."""
    files = {name: folder / f"{name}.py" for name in HOGS}
    for name, file in files.items():
        file.write_text(HOGS[name])
    return files


def _pids_below(daemon: psutil.Process, folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for child in daemon.children():
        with contextlib.suppress(psutil.Error):
            found |= {name: child.pid for name in HOGS if str(folder / f"{name}.py") in child.cmdline()}
    return found


def _restarted(pids: Callable[[], dict[str, int]]) -> dict[str, bool]:
    """Which of the programs get another pid within the time limit."""
    first: dict[str, int] = {}
    found = dict.fromkeys(HOGS, False)
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end and not all(found.values()):
        for name, pid in pids().items():
            if pid:
                found[name] = found[name] or first.setdefault(name, pid) != pid
        time.sleep(LOOK_SECONDS)
    return found
