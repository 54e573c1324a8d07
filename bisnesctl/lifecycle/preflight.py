"""What is looked at before anything starts, so that a start fails early and says why."""

import contextlib
import errno
import importlib.util
import socket
from collections.abc import Iterable

import psutil

from bisnesctl.errors import ConfigError, PortTaken
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings


def check_installed() -> None:
    """Raises `ConfigError` where supervisor or our services are not installed beside this tool."""
    for module in ("supervisor", "services"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"the Python package {module} is missing: install the project again (`pip install .`)")


def check_secrets(settings: Settings) -> None:
    """Raises `ConfigError` where a secret is missing without which nothing works."""
    if not settings.encryption_key:
        raise ConfigError(
            f"ENCRYPTION_KEY is empty in {settings.env_file}: put 64 hex digits there, such as `openssl rand -hex 32` "
            "prints (`bisnesctl init` makes a whole new file)"
        )


def check_ports(instances: Iterable[Instance]) -> None:
    """Raises `PortTaken` or `ConfigError` where an instance could not listen on its address."""
    wanted: dict[tuple[str, int], Instance] = {}
    for each in instances:
        if each.host is not None and each.port is not None:
            wanted.setdefault((each.host, each.port), each)
    for (host, port), instance in wanted.items():
        _check_port(host, port, instance)


def _check_port(host: str, port: int, instance: Instance) -> None:
    setting = (instance.program.address or ("", ""))[1].upper()
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(address)
            attempt.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} of {instance.program.name} is taken by {_holder(port)}: end that, or set another "
                f"{setting} in .env"
            ) from error
        reason = error.strerror or str(error)
        raise ConfigError(f"{instance.program.name} cannot listen on {host}, port {port}: {reason}") from error


def _holder(port: int) -> str:
    """Who listens there, as far as we may see."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {connection.pid}: {' '.join(process.cmdline())[:100]})"
    return "another process, which is not ours to see (`sudo ss -ltnp` shows it)"
