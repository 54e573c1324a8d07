"""What the commands of the topology name beside the settings: interpreter, server binaries, folders."""

import os
import shutil
import sys

from bisnesctl import paths
from bisnesctl.errors import ConfigError
from bisnesctl.processes import embedded_servers, shim
from bisnesctl.processes.topology import max_connections
from bisnesctl.settings import Settings


def words(settings: Settings) -> dict[str, str]:
    """The words, by name. Raises `ConfigError` where a program that is needed is not installed."""
    home = settings.server_home
    return {
        "python": sys.executable,
        "setpriv": _setpriv(),
        "shim": shim.__file__,
        "postgres": str(embedded_servers.postgres_bin(settings) / "postgres") if settings.embedded_postgres else "",
        "postgres_data": str(paths.postgres_data(home)),
        "postgres_sockets": str(paths.postgres_sockets(home)),
        "max_connections": str(max_connections(settings)),
        "redis": str(embedded_servers.redis_server(settings)) if settings.embedded_redis else "",
        "redis_data": str(paths.redis_data(home)),
        "redis_socket": str(paths.redis_socket(home)),
        "server_user": embedded_servers.server_user() or "",
    }


def _setpriv() -> str:
    found = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if found is None:
        raise ConfigError("the program setpriv is missing: install the package util-linux")
    return found
