"""CPU time and memory of processes, from /proc."""

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds, user and system, since some moment."""

    app: float
    servers: float

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.app - earlier.app, self.servers - earlier.servers)


def tree(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes and all their descendants that live now, each once."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {process.pid: process for process in [root, *root.children(recursive=True)]}
    return list(found.values())


def cpu_seconds(roots: Iterable[psutil.Process]) -> float:
    """CPU time of the trees, of children that have ended and been waited for as well."""
    return sum(_cpu(process) for process in tree(roots))


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def wakeups(roots: Iterable[psutil.Process]) -> int:
    """How often the threads of the trees that live now began to run after they had waited for something."""
    return sum(_switches(process.pid) for process in tree(roots))


def _switches(pid: int) -> int:
    found = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            found += int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split(maxsplit=1)[0])
    return found


def pss_mib(process: psutil.Process) -> float:
    """Memory of a process in MiB, what it shares counted by parts (PSS); 0 when it is gone."""
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def shares_mib(some: Iterable[psutil.Process], everybody: Iterable[psutil.Process]) -> float:
    """Memory of some processes in MiB; what they share is counted by parts, as if only `everybody` ran here.

    PSS itself depends on other programs of the machine: it counts half of Node's code while another Node runs.
    """
    users: Counter[str] = Counter()
    for process in everybody:
        users.update({mapping.path for mapping in _mappings(process) if mapping.is_file})
    return (
        sum(
            each.anonymous + each.file / max(users[each.path], 1) if each.is_file else each.pss
            for process in some
            for each in _mappings(process)
        )
        / 2**20
    )


@dataclass(frozen=True, slots=True)
class _Mapping:
    """The mappings of a file by a process, or memory without a file. Sizes are in bytes."""

    path: str
    anonymous: int
    file: int
    pss: int

    @property
    def is_file(self) -> bool:
        return self.path.startswith("/")


def _mappings(process: psutil.Process) -> list[_Mapping]:
    try:
        found = process.memory_maps()
    except psutil.NoSuchProcess:
        return []
    return [_Mapping(each.path, each.anonymous, each.rss - each.anonymous, each.pss) for each in found]


def end(roots: Iterable[psutil.Process], patience: float = 10) -> None:
    """Ask the trees to end (SIGTERM to the roots), then make them (SIGKILL) after `patience` seconds."""
    roots = list(roots)
    everybody = tree(roots)
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            root.terminate()
    _, alive = psutil.wait_procs(everybody, timeout=patience)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=patience)
