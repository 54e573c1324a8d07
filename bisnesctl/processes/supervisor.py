"""supervisord's calls over its unix socket, and the little that starts it. Imports nothing of supervisor itself."""

import http.client
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisnesctl.errors import BisnesError, NotRunning, ShuttingDown, StartFailed, SupervisorFault

#: Seconds that a call may take; supervisord answers within milliseconds.
CALL_TIMEOUT = 5
#: Seconds until a fresh supervisord must answer.
BOOT_TIMEOUT = 15

#: States in which supervisord looks after a process: it runs, or will be tried again.
ACTIVE_STATES = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})

_UNKNOWN_METHOD, _SHUTDOWN_STATE, _BAD_NAME = 1, 6, 10
#: SPAWN_ERROR: the process was started and ended at once, or could not be forked.
_SPAWN_ERROR, _ALREADY_STARTED, _NOT_RUNNING, _ALREADY_ADDED = 50, 60, 70, 90
#: Seconds between two looks at whether something has stopped.
_INTERVAL = 0.05


@dataclass(frozen=True)
class Process:
    """A process as supervisord sees it."""

    name: str
    group: str
    #: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN.
    state: str
    #: 0 where there is none.
    pid: int
    #: Why the last start failed; empty where it did not.
    error: str
    exit_status: int
    #: Seconds since it was started; 0 where it never was, or does not run.
    uptime: float = 0.0
    #: Seconds that it lived, where it has ended.
    lived: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it runs or is about to."""
        return self.state in ACTIVE_STATES

    @property
    def settled(self) -> bool:
        """Whether it stays as it is until somebody starts it by name; the guard may restart what ended by itself."""
        return self.state == "STOPPED"


@dataclass(frozen=True)
class Changes:
    """Groups whose configuration differs from what supervisord holds."""

    added: list[str]
    changed: list[str]
    removed: list[str]

    def of(self, groups: set[str] | None) -> "Changes":
        """Those of these groups only; none: of all."""
        if groups is None:
            return self
        kept = ([each for each in names if each in groups] for names in (self.added, self.changed, self.removed))
        return Changes(*kept)


class Supervisor:
    """A client of the supervisord that listens on `path`.

    Every call raises `NotRunning` where nobody answers and `SupervisorFault` where it is refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(str(path)))

    def running(self) -> bool:
        """Whether supervisord answers and takes orders."""
        return self.state() not in (None, "SHUTDOWN")

    def state(self) -> str | None:
        """RUNNING, RESTARTING, SHUTDOWN or FATAL; none where nobody answers. Asking speeds up a shutdown."""
        try:
            return str(self._call("getState")["statename"])
        except ShuttingDown:
            return "SHUTDOWN"
        except NotRunning:
            return None

    def pid(self) -> int:
        """supervisord's own process id."""
        return int(self._call("getPID"))

    def processes(self) -> dict[str, Process]:
        """All processes by name, including those that do not run."""
        return {each["name"]: _process(each) for each in self._call("getAllProcessInfo")}

    def start(self, full_name: str) -> None:
        """Tells it to start `group:name`, without waiting; no fault where it runs already.

        Neither is it a fault if the process ended at once or could not be forked. `processes` shows that, and whoever
        looks after the process decides about it as about any other end.
        """
        self._call("startProcess", full_name, False, unless=(_ALREADY_STARTED, _SPAWN_ERROR))

    def stop(self, full_name: str) -> None:
        """Tells it to stop `group:name`, without waiting; what ended by itself is not restarted any more."""
        if self._call("stopProcess", full_name, False, unless=(_NOT_RUNNING,)) is None:
            self._call("settle", full_name, namespace="wakeup", unless=(_UNKNOWN_METHOD,))  # one of an older release

    def revive(self, full_name: str) -> bool:
        """Starts `group:name` as `start` does if it ended by itself and nobody stopped it since. Returns whether it
        did."""
        return self._call("revive", full_name, namespace="wakeup", unless=(_SPAWN_ERROR,)) is not False

    def reread(self) -> Changes:
        """Reads the configuration file again and says what differs; applies nothing."""
        added, changed, removed = self._call("reloadConfig")[0]
        return Changes(added, changed, removed)

    def add_group(self, name: str) -> None:
        """Takes up a group that `reread` found; no fault where somebody else did."""
        self._call("addProcessGroup", name, unless=(_ALREADY_ADDED,))

    def remove_group(self, name: str) -> None:
        """Forgets a group, all of which must have stopped."""
        self._call("removeProcessGroup", name, unless=(_BAD_NAME,))

    def shutdown(self) -> None:
        """Tells supervisord to end; no fault where it is about to."""
        self._call("shutdown", unless=(_SHUTDOWN_STATE,))

    def _call(self, method: str, *arguments: Any, unless: tuple[int, ...] = (), namespace: str = "supervisor") -> Any:
        try:
            return getattr(self._proxy, f"{namespace}.{method}")(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in unless:
                return None
            if fault.faultCode == _SHUTDOWN_STATE:
                raise ShuttingDown from fault
            raise SupervisorFault(f"supervisord refused {method}{arguments}: {fault.faultString}") from fault
        except (TimeoutError, BlockingIOError) as error:  # the second: so many ask already that none is let in
            raise NotRunning(
                f"supervisord did not answer within {CALL_TIMEOUT} s on {self.path}: see `bisnesctl logs supervisord`"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning from error


def launch(config: Path, foreground: bool, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts supervisord with `config`: as a daemon, or in the foreground as a child that ends with us.

    Raises `StartFailed` with what it said. Wait for its answer with `wait_until_up`.
    """
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    if foreground:
        command = ["setpriv", "--pdeathsig", "TERM", "--", *command, "--nodaemon", "--silent"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    if not foreground:
        _daemonised(child)
    return child


def _daemonised(child: subprocess.Popen[bytes]) -> None:
    try:
        said, _ = child.communicate(timeout=BOOT_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        child.kill()
        raise StartFailed(f"supervisord did not start within {BOOT_TIMEOUT} s") from error
    if child.returncode:
        raise StartFailed(f"supervisord did not start: {said.decode(errors='replace').strip()}")


def wait_until_up(supervisor: Supervisor, child: subprocess.Popen[bytes]) -> None:
    """Waits until the supervisord just launched answers. Raises `StartFailed`."""
    deadline = time.monotonic() + BOOT_TIMEOUT
    while not supervisor.running():
        if child.poll():
            said = child.stdout.read().decode(errors="replace").strip() if child.stdout else ""
            raise StartFailed(f"supervisord ended with {child.returncode}: {said}")
        if time.monotonic() > deadline:
            raise StartFailed(f"supervisord does not answer on {supervisor.path}: see `bisnesctl logs supervisord`")
        time.sleep(0.02)


def wait_stopped(supervisor: Supervisor, names: set[str], seconds: float) -> None:
    """Waits until none of these processes runs, or supervisord is gone. Raises `BisnesError` when the time is up."""
    deadline = time.monotonic() + seconds
    while active := [each for each in _processes(supervisor) if each.name in names and each.active]:
        if time.monotonic() > deadline:
            raise BisnesError(
                f"{', '.join(each.name for each in active)} did not stop: see `bisnesctl logs supervisord`"
            )
        time.sleep(_INTERVAL)


def _processes(supervisor: Supervisor) -> list[Process]:
    try:
        return list(supervisor.processes().values())
    except NotRunning:
        return []


def pid_in(pidfile: Path, config: Path) -> int | None:
    """The pid of a living supervisord of this very `config`, from its pid file; none where there is none."""
    try:
        pid = int(pidfile.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(config) in words else None


def lives(pid: int) -> bool:
    """Whether a process still runs; one that has ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
    )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CALL_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> _UnixConnection:
        # A new connection a call: supervisord closes idle ones, and threads may share a client.
        return _UnixConnection(self._path)
