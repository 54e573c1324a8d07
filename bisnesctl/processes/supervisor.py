"""Client of supervisord over its unix socket, and its start. Imports nothing from the supervisor package."""

import http.client
import os
import socket
import time
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisnesctl import paths
from bisnesctl.errors import BisnesError, NotRunning, ShuttingDown, SupervisorFault
from bisnesctl.host import process_stat

#: Seconds in which supervisord must answer whether it runs; it usually answers within milliseconds.
CALL_TIMEOUT_SECONDS = 5
#: Seconds that any other call may take: on a busy machine supervisord may need several to start a process.
BUSY_CALL_TIMEOUT_SECONDS = 30
#: The module that runs supervisord.
SUPERVISORD = "bisnesctl.processes.supervisord"

#: States in which a process runs or will be started again by supervisord.
ACTIVE_STATES = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})

# Fault codes of supervisord.
_UNKNOWN_METHOD = 1
_SHUTDOWN_STATE = 6
_BAD_NAME = 10
#: The process was started and ended at once, or could not be forked.
_SPAWN_ERROR = 50
_ALREADY_STARTED = 60
_NOT_RUNNING = 70
_ALREADY_ADDED = 90

#: Seconds between looks at processes that are stopping, unless one ends before.
_STOP_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Process:
    """A process as supervisord describes it."""

    name: str
    group: str
    #: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN.
    state: str
    #: 0 if it does not run.
    pid: int
    #: Why the last start failed; empty if it did not fail.
    error: str
    exit_status: int
    #: Seconds since it was started; 0 if it does not run.
    uptime: float = 0.0
    #: Seconds that it lived; 0 if it runs.
    lived: float = 0.0
    #: When it ended, in seconds since the epoch; 0 if it runs or never ran.
    ended_at: float = 0.0
    #: Whether this supervisord has started it ever.
    was_started: bool = True

    @property
    def active(self) -> bool:
        """Whether it runs or is starting."""
        return self.state in ACTIVE_STATES

    @property
    def settled(self) -> bool:
        """Whether it stays stopped until an operator starts it; the guard may restart one that ended by itself."""
        return self.state == "STOPPED"


@dataclass(frozen=True)
class Changes:
    """Groups whose configuration files differ from supervisord's configuration."""

    added: list[str]
    changed: list[str]
    removed: list[str]

    def of(self, groups: set[str] | None) -> "Changes":
        """The changes of these groups only; None: of all groups."""
        if groups is None:
            return self
        kept = ([each for each in names if each in groups] for names in (self.added, self.changed, self.removed))
        return Changes(*kept)


class Supervisor:
    """A client of the supervisord whose files are in `run_dir`.

    Every call raises `NotRunning` if supervisord does not answer and `SupervisorFault` if it refuses the call.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = paths.supervisor_socket(run_dir)
        self._proxy, self._patient = (
            xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(str(self.path), seconds))
            for seconds in (CALL_TIMEOUT_SECONDS, BUSY_CALL_TIMEOUT_SECONDS)
        )

    def running(self) -> bool:
        """Whether supervisord answers and accepts calls."""
        return self.state() not in (None, "SHUTDOWN")

    def state(self) -> str | None:
        """RUNNING, RESTARTING, SHUTDOWN or FATAL; None without an answer. The call speeds up a shutdown."""
        try:
            return str(self._call("getState")["statename"])
        except ShuttingDown:
            return "SHUTDOWN"
        except NotRunning:
            return None

    def pid(self) -> int:
        """The pid of supervisord."""
        return int(self._call("getPID"))

    def processes(self) -> dict[str, Process]:
        """All processes by name, including those that do not run."""
        return {each["name"]: _process(each) for each in self._call("getAllProcessInfo")}

    def start(self, full_name: str) -> None:
        """Starts `group:name` without waiting; does nothing if it runs already.

        A process that ends at once or cannot be forked is not a fault: `processes` shows it, and the guard decides
        about it as about any other end.
        """
        self._call("startProcess", full_name, False, unless=(_ALREADY_STARTED, _SPAWN_ERROR))

    def stop(self, full_name: str) -> None:
        """Stops `group:name` without waiting; if it ended by itself, it is not restarted any more."""
        if self._call("stopProcess", full_name, False, unless=(_NOT_RUNNING,)) is None:
            self._call("settle", full_name, namespace="wakeup", unless=(_UNKNOWN_METHOD,))  # one of an older release

    def revive(self, full_name: str) -> bool:
        """Starts `group:name` as `start` does, if it ended by itself and was not stopped since.

        Returns whether it did.
        """
        return self._call("revive", full_name, namespace="wakeup", unless=(_SPAWN_ERROR,)) is not False

    def reread(self) -> Changes:
        """Makes supervisord read its configuration files again; returns the changes without applying them."""
        added, changed, removed = self._call("reloadConfig")[0]
        return Changes(added, changed, removed)

    def add_group(self, name: str) -> None:
        """Adds a group that `reread` found; does nothing if it was added already."""
        self._call("addProcessGroup", name, unless=(_ALREADY_ADDED,))

    def remove_group(self, name: str) -> None:
        """Removes a group whose processes have all stopped, with its socket."""
        self.release(name)
        self._call("removeProcessGroup", name, unless=(_BAD_NAME,))

    def refit(self, full_name: str) -> bool:
        """Gives the stopped `group:name` the configuration that `reread` found, or adds or removes it.

        The other members of its group run on. Returns False if supervisord is of an older release without this call.
        """
        return self._call("refit", full_name, namespace="wakeup", unless=(_UNKNOWN_METHOD,)) is not None

    def hold(self, group: str) -> bool:
        """Keeps the socket of a group open while its processes are restarted, so that clients wait instead of failing.

        Returns False if it has none, or if supervisord is of an older release without this call.
        """
        return bool(self._call("hold", group, namespace="wakeup", unless=(_UNKNOWN_METHOD,)))

    def release(self, group: str) -> None:
        """Ends a `hold`; does nothing if there is none."""
        self._call("release", group, namespace="wakeup", unless=(_UNKNOWN_METHOD,))

    def shutdown(self) -> None:
        """Shuts supervisord down; does nothing if it is shutting down."""
        self._call("shutdown", unless=(_SHUTDOWN_STATE,))

    def _call(self, method: str, *arguments: Any, unless: tuple[int, ...] = (), namespace: str = "supervisor") -> Any:
        proxy, seconds = self._patient, BUSY_CALL_TIMEOUT_SECONDS
        if method == "getState":
            proxy, seconds = self._proxy, CALL_TIMEOUT_SECONDS
        try:
            return getattr(proxy, f"{namespace}.{method}")(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in unless:
                return None
            if fault.faultCode == _SHUTDOWN_STATE:
                raise ShuttingDown from fault
            raise SupervisorFault(f"supervisord refused {method}{arguments}: {fault.faultString}") from fault
        except (TimeoutError, BlockingIOError) as error:  # the second: its queue of connections is full
            raise NotRunning(
                f"supervisord did not answer on {self.path} within {seconds} s: see `bisnesctl logs supervisord`"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning from error


def wait_stopped(supervisor: Supervisor, names: set[str], seconds: float) -> None:
    """Waits until none of these processes runs, or supervisord has ended. Raises `BisnesError` after the timeout."""
    for _ in watch_stop(supervisor, names, seconds):
        pass


def watch_stop(supervisor: Supervisor, names: set[str], seconds: float) -> Iterator[set[str]]:
    """The names of those that still run, again and again, until none does or supervisord has ended; that is yielded
    too. Raises `BisnesError` after the timeout.
    """
    deadline = time.monotonic() + seconds
    while True:
        active = [each for each in _processes(supervisor) if each.name in names and each.active]
        yield {each.name for each in active}
        if not active:
            return
        if time.monotonic() > deadline:
            raise BisnesError(
                f"{', '.join(each.name for each in active)} did not stop: see `bisnesctl logs supervisord`"
            )
        process_stat.wait_for_an_end([each.pid for each in active if each.pid], _STOP_POLL_SECONDS)


def _processes(supervisor: Supervisor) -> list[Process]:
    try:
        return list(supervisor.processes().values())
    except NotRunning:
        return []


def pid_in(pidfile: Path, config: Path) -> int | None:
    """The pid in the file, if that process is a supervisord with this `config`; otherwise None."""
    try:
        pid = int(pidfile.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(config) in words else None


def running_configs(name: str) -> list[Path]:
    """The configuration files with this name of all supervisords that run, as far as this user may see them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = [os.fsdecode(word) for word in (folder / "cmdline").read_bytes().split(b"\0")]
        except OSError:
            continue  # it ended
        if SUPERVISORD in words:
            found += [Path(word) for word in words if word.endswith(f"/{name}")]
    return found


def _process(info: dict[str, Any]) -> Process:
    return Process(
        name=info["name"],
        group=info["group"],
        state=info["statename"],
        pid=info["pid"],
        error=info["spawnerr"],
        exit_status=info["exitstatus"],
        uptime=max(info["now"] - info["start"], 0.0) if info["pid"] else 0.0,
        lived=0.0 if info["pid"] else max(info["stop"] - info["start"], 0.0),
        ended_at=0.0 if info["pid"] else float(info["stop"]),
        was_started=bool(info["start"]),
    )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__()
        self._path, self._seconds = path, seconds

    def make_connection(self, host: object) -> _UnixConnection:
        # A new connection for each call: supervisord closes idle ones, and threads may share a client.
        return _UnixConnection(self._path, self._seconds)
