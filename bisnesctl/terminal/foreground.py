"""The development mode: one terminal that shows all logs; Ctrl-C or SIGTERM stops everything in order."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator

from bisnesctl.errors import Conflict, Unhealthy
from bisnesctl.host import systemd
from bisnesctl.lifecycle import preflight
from bisnesctl.lifecycle.stop import Report, stop_all
from bisnesctl.processes.deployment import Deployment
from bisnesctl.terminal.log_view import LogView

#: Seconds that supervisord may take to end once all its processes have.
END_TIMEOUT_SECONDS = 60


def stay(deployment: Deployment, child: subprocess.Popen[bytes], view: LogView, report: Report) -> None:
    """Shows the logs until a signal arrives, then stops everything, still showing them.

    systemd is notified at the beginning and at a stop. Raises `Unhealthy` if supervisord ends by itself meanwhile,
    after its processes have ended, so that nothing has to be killed.
    """
    systemd.notify("READY=1\nSTATUS=everything is healthy: bisnesctl status")
    with _signals_as_event() as stop_requested:
        view.follow(until=lambda: stop_requested.is_set() or child.poll() is not None)
        systemd.notify("STOPPING=1")
        if child.poll() is None:
            _stop(deployment, view, report)
            child.wait(END_TIMEOUT_SECONDS)  # all processes have stopped; only supervisord's own end is left
            return
    last = deployment.last_start
    if not stop_requested.is_set() and last is not None and last.since:
        with contextlib.suppress(Conflict):
            preflight.wait_for_orphans(deployment.settings, report)
        raise Unhealthy(f"supervisord ended by itself ({child.returncode}): see `bisnesctl logs supervisord`")


@contextlib.contextmanager
def _signals_as_event() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set; further signals change nothing."""
    received = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, lambda *_: received.set()) for each in signals}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _stop(deployment: Deployment, view: LogView, report: Report) -> None:
    """Stops everything on another thread, whose error is raised here."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            stop_all(deployment, report)
        except BaseException as error:
            failures.append(error)

    stopping = threading.Thread(target=run)
    stopping.start()
    view.follow(until=lambda: not stopping.is_alive())
    if failures:
        raise failures[0]
