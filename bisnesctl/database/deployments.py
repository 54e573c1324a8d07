"""The identity of a deployment: two with the same host and instance names on one database must not run side by side.

Each would take over the messages that the other has in hand. Cloned machines, containers with a fixed host name, and a
second checkout on the same machine lead to that.
"""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2.extensions

from bisnesctl.errors import Conflict
from bisnesctl.host import process_stat
from bisnesctl.settings import Settings

#: Seconds between two looks whether the other deployment gives signs of life.
_LOOK_INTERVAL_SECONDS = 0.5

_OTHERS = """
SELECT deployment, pid, instance, last_heartbeat FROM process_instances
WHERE host = %(host)s AND deployment <> %(deployment)s
    AND last_heartbeat > now() - %(max_age)s * interval '1 second'
    AND (%(process)s IS NULL OR (process_name, instance) = (%(process)s, %(instance)s))
ORDER BY instance"""


def identity(settings: Settings) -> str:
    """The boot of the machine, the container on it, and the home: `<boot>/<container>/<path>`."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}{settings.home}"  # noqa: PTH116


def conflict(
    connection: psycopg2.extensions.connection, settings: Settings, process: str | None = None, instance: str = ""
) -> str | None:
    """The reason why this deployment must not run yet: another one with its names shows signs of life.

    `process`, `instance`: the one instance that is to run; None: any.
    """
    found = _others(connection, settings, process, instance)
    return _explain(settings, found[0][0], found[0][2]) if found else None


def wait_until_alone(
    connection: psycopg2.extensions.connection, settings: Settings, report: Callable[[str], None]
) -> None:
    """Wait for the signs of life of another deployment to age, such as those from before a reboot.

    Raises `Conflict` if it gives further ones.
    """
    first = {name: beat for _, _, name, beat in _others(connection, settings)}
    if first:
        report("another deployment of this name was alive a moment ago: waiting to see whether it still is")
    while found := _others(connection, settings):
        for deployment, _, name, beat in found:
            if beat != first.get(name):
                raise Conflict(_explain(settings, deployment, name))
        time.sleep(_LOOK_INTERVAL_SECONDS)


def _others(
    connection: psycopg2.extensions.connection, settings: Settings, process: str | None = None, instance: str = ""
) -> list[tuple[str, int, str, object]]:
    here = identity(settings)
    values = {
        "host": socket.gethostname(),
        "deployment": here,
        "max_age": settings.max_heartbeat_age / 1000,
        "process": process,
        "instance": instance,
    }
    with connection.cursor() as cursor:
        cursor.execute(_OTHERS, values)
        return [each for each in cursor.fetchall() if not _is_dead(each[0], each[1], here)]


def _is_dead(deployment: str, pid: int, here: str) -> bool:
    """Whether a process is seen to be gone: one of this boot and container."""
    return deployment.split("/")[:2] == here.split("/")[:2] and not process_stat.is_alive(pid)


def _explain(settings: Settings, deployment: str, name: str) -> str:
    home = "/" + deployment.split("/", 2)[-1]
    return (
        f"another deployment with this machine's host name ({socket.gethostname()}) and home {home} uses this database "
        f"(its {name} is alive): stop it, or give each machine a host name of its own, or set another DATABASE_URL in "
        f"{settings.env_file}"
    )
