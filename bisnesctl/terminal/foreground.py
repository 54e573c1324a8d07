"""The development mode: one terminal that shows all logs; Ctrl-C or SIGTERM stops everything in order."""

import subprocess
import threading
from collections.abc import Callable

from bisnesctl.errors import Unhealthy
from bisnesctl.lifecycle.steps import Report, stop_all
from bisnesctl.processes.deployment import Deployment
from bisnesctl.terminal import signals
from bisnesctl.terminal.log_view import LogView

#: Seconds that supervisord has to end once all its processes have.
END_TIMEOUT_SECONDS = 60


def stay(deployment: Deployment, child: subprocess.Popen[bytes], view: LogView, report: Report) -> None:
    """Shows the logs until the terminal or the system asks to stop, then stops everything, still showing them.

    Raises `Unhealthy` where supervisord ends by itself meanwhile.
    """
    with signals.as_event() as asked:
        view.follow(until=lambda: asked.is_set() or child.poll() is not None)
        if child.poll() is None:
            _stop(deployment, view, report)
            child.wait(END_TIMEOUT_SECONDS)  # it has stopped everything; its end alone is left
            return
    if not asked.is_set() and deployment.state is not None and deployment.state.since:
        raise Unhealthy(f"supervisord ended by itself ({child.returncode}): see `bisnesctl logs supervisord`")


def _stop(deployment: Deployment, view: LogView, report: Report) -> None:
    failures: list[BaseException] = []
    stopping = threading.Thread(target=_keeping(failures, lambda: stop_all(deployment, report)))
    stopping.start()
    view.follow(until=lambda: not stopping.is_alive())
    if failures:
        raise failures[0]


def _keeping(failures: list[BaseException], action: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            action()
        except BaseException as error:
            failures.append(error)

    return run
