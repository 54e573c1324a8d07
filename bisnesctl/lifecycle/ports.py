"""The ports of a deployment: no two programs may have the same, and each must be free before its program starts."""

import contextlib
import errno
import socket
from collections.abc import Iterable, Sequence

import psutil

from bisnesctl import addresses, masking
from bisnesctl.errors import ConfigError, PortTaken
from bisnesctl.processes.topology import Instance, expand
from bisnesctl.settings import Settings

#: Characters of a command line that an error shows.
_MAX_COMMAND_LENGTH = 100


def check(settings: Settings, wanted: Sequence[Instance], binding: Sequence[Instance]) -> None:
    """Checks the ports of the wanted programs, and that those in `binding` can listen on their addresses now.

    Raises `ConfigError`, or `PortTaken` that names the other process.
    """
    check_clashes(settings, wanted)
    check_free(settings, binding)


def check_clashes(settings: Settings, wanted: Sequence[Instance]) -> None:
    """Raises `ConfigError` if one of the wanted programs and another one that may run have the same port."""
    programs = {each.program.name: each for each in [*expand(settings), *wanted] if each.port is not None}
    starting = {each.program.name for each in wanted}
    ordered = list(programs.values())
    for index, one in enumerate(ordered):
        for other in ordered[index + 1 :]:
            concerned = starting & {one.program.name, other.program.name}
            if concerned and one.port == other.port and addresses.overlap(one.host or "", other.host or ""):
                raise ConfigError(
                    f"{_setting(one)} and {_setting(other)} are both {one.port}: {one.program.name} and "
                    f"{other.program.name} need different ports. Change one in {settings.origin(_field(other))}"
                )


def check_free(settings: Settings, instances: Iterable[Instance]) -> None:
    """Raises `PortTaken` or `ConfigError` if an instance cannot listen on its address."""
    wanted: dict[tuple[str, int], Instance] = {}
    for each in instances:
        if each.host is not None and each.port is not None:
            wanted.setdefault((each.host, each.port), each)
    for (host, port), instance in wanted.items():
        _check_port(host, port, instance, settings)


def _check_port(host: str, port: int, instance: Instance, settings: Settings) -> None:
    try:
        found = socket.getaddrinfo(host, port, addresses.family(host), socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(address)
            attempt.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            if _kept_open(port, settings):
                return
            raise PortTaken(
                f"port {port} of {instance.program.name} is in use by {_listener_on(port)}: end that process, or set "
                f"another {settings.where(_field(instance))}"
            ) from error
        host_field = (instance.program.address or ("", ""))[0]
        place = f" (see {settings.where(host_field)})" if hasattr(settings, host_field) else ""
        raise ConfigError(
            f"{instance.program.name} cannot listen on {host}, port {port}: {error.strerror or error}{place}"
        ) from error


def _field(instance: Instance) -> str:
    return (instance.program.address or ("", ""))[1]


def _setting(instance: Instance) -> str:
    return _field(instance).upper()


def _kept_open(port: int, settings: Settings) -> bool:
    """Whether the supervisord of this deployment listens there: for a process that ended by itself a moment ago."""
    try:
        own = psutil.Process(int((settings.run_dir / "supervisord.pid").read_text()))
        return any(each.status == psutil.CONN_LISTEN and each.laddr[1:2] == (port,) for each in own.net_connections())
    except (OSError, ValueError, psutil.Error):
        return False


def _listener_on(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                process = psutil.Process(connection.pid)
                command = " ".join(" ".join(masking.command_line(process.cmdline())).split())
                short = command if len(command) <= _MAX_COMMAND_LENGTH else f"{command[:_MAX_COMMAND_LENGTH]}…"
                return f"{process.name()} (pid {connection.pid}: {short})"
    return "a process of another user (`sudo ss -ltnp` shows it)"
