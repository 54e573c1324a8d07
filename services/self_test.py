"""`python -m services.self_test PROGRAM`: proves that this release can run a program with the settings in force.

It loads what the program loads, builds its application and asks whether it is ready, as a load balancer would. It
listens on no port, takes no work and writes no heartbeat, so it may run beside the program. `bisnesctl reload` runs it
before it stops anything. Its exit status is 0 if the program would work.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from werkzeug.test import Client

from services.runtime.process import Process

_SERVER = ("services.gunicorn_conf", "services.http_server.server", "dramatiq.brokers.redis", "requests")
#: The modules that each program loads, those included that it loads when it first needs them.
MODULES = {
    "api": (*_SERVER, "services.api.asgi"),
    "meta": (*_SERVER, "services.connectors.meta.receiver"),
    "meta-worker": ("services.worker", "requests"),
    "events": ("services.events.__main__",),
    "wwebjs": (*_SERVER, "services.wwebjs_manager"),
    "wwebjs-session": ("services.connectors.wwebjs.session.process",),
    "dashboard": (*_SERVER, "services.dashboard.service"),
    "legacy": (*_SERVER, "services.legacy"),
}
#: The address that says whether an application is ready. Its host name is one that every application knows.
READY_PATH, BASE_URL = "/health/ready", "http://127.0.0.1"


def _api(process: Process) -> Any:
    from services.api.app import create_app
    from services.api.context import connect
    from services.wakeups import WakeupSender

    return create_app(connect(process.settings, WakeupSender(process.settings.redis_dsn)))


def _receiver(process: Process) -> Any:
    from services.connectors.meta.receiver import Receiver
    from services.wakeups import WakeupSender

    return Receiver(process.settings, process.database, WakeupSender(process.settings.redis_dsn))


def _manager(process: Process) -> Any:
    from services.wakeups import WakeupSender
    from services.wwebjs_manager import Manager, connect

    return Manager(connect(process.settings, WakeupSender(process.settings.redis_dsn)))


def _dashboard(process: Process) -> Any:
    from bisnesctl.people.store import PeopleStore
    from services.dashboard.app import Dashboard

    return Dashboard(process.settings, process.database, PeopleStore(process.settings.home))


#: The applications of programs that answer over HTTP. That of the legacy process would take work: the API stands in.
APPLICATIONS: dict[str, Callable[[Process], Any]] = {
    "api": _api,
    "meta": _receiver,
    "wwebjs": _manager,
    "dashboard": _dashboard,
    "legacy": _api,
}


def check(program: str) -> str:
    """Why this release cannot run the program; empty if it can. Raises the error of a module that cannot be loaded."""
    for module in MODULES[program]:
        importlib.import_module(module)
    process = Process.from_environment(program)
    if program in APPLICATIONS:
        answer = Client(APPLICATIONS[program](process)).get(READY_PATH, base_url=BASE_URL)
        return "" if answer.status_code == 200 else f"{READY_PATH} answers {answer.status_code}: {answer.text.strip()}"
    with process.database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM outbox LIMIT 1")
    return ""


def main() -> None:
    """Ends the process at once, since threads of the application may still run."""
    reason = check(sys.argv[1])
    if reason:
        print(reason, file=sys.stderr)
    sys.stderr.flush()
    os._exit(1 if reason else 0)


if __name__ == "__main__":
    main()
