"""Conditions of a start: packages, secrets, free ports, no orphans, enough connections.

Each is checked before the programs that need it start, so that a start fails early with a reason.
"""

import contextlib
import errno
import importlib.util
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from bisnesctl import addresses, masking, paths, wajs
from bisnesctl.database import postgres
from bisnesctl.errors import ConfigError, Conflict, PortTaken
from bisnesctl.host import confine, process_stat
from bisnesctl.processes import embedded_servers
from bisnesctl.processes.topology import Instance, Mode, expand
from bisnesctl.settings import Settings

#: Seconds that orphans get to end, which is longer than any program takes to stop.
ORPHANS_TIMEOUT_SECONDS = 65.0
#: Seconds after which an orphaned PostgreSQL is stopped without waiting for anything; its log loses nothing. A usual
#: stop of PostgreSQL 18 while it recovers from a crash may never end.
POSTGRES_TIMEOUT_SECONDS = 15.0
#: The program that evaluates the signals.
EVALUATOR = "alerts"
#: Connections to PostgreSQL without which a process does not work.
LEAST_CONNECTIONS = 3
#: Processes with connections beside the APIs and the workers of Meta: events, receiver and manager.
OTHER_PROCESSES = 3
#: Characters of a command line that an error shows.
_MAX_COMMAND_LENGTH = 100

Report = Callable[[str], None]


def check(settings: Settings, mode: Mode, wanted: Sequence[Instance], report: Report, orphans: bool) -> None:
    """Checks everything that must hold before these instances of a mode start, and reports what they will lack.

    `orphans`: whether processes of an earlier supervisord may still run, which are waited for. Raises `ConfigError`,
    `Conflict` or `PortTaken`.
    """
    check_installed()
    check_secrets(settings)
    if orphans:
        wait_for_orphans(settings, report)
    check_ports(settings, wanted, wanted)
    warn_of_exposure(wanted, report)
    if mode is Mode.MULTIPROCESS and (warning := missing_wa_js(settings)):
        report(f"[yellow]{warning}[/]")


def check_secrets(settings: Settings) -> None:
    """Raises `ConfigError` if ENCRYPTION_KEY is missing or refused."""
    if not settings.encryption_key:
        raise ConfigError(
            f"ENCRYPTION_KEY is empty in {settings.env_file}: set it to 64 hex digits, such as the output of "
            "`openssl rand -hex 32` (`bisnesctl init` writes a complete new file)"
        )


def check_installed() -> None:
    """Raises `ConfigError` if supervisor or the services are not installed beside this tool."""
    for module in ("supervisor", "services"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"the Python package {module} is missing: install the project again (`pip install .`)")


def warn_of_exposure(instances: Iterable[Instance], report: Report) -> None:
    """Reports how a login of this machine, or a customer's file, could reach more than it should through a browser."""
    if not any(each.program.name == "wwebjs" for each in instances):
        return
    if os.geteuid() == 0:
        report("[yellow]warning[/]: Chromium runs as root and so without its own sandbox (--no-sandbox): use a user")
        report("         of its own, see `bisnesctl help production`")
    if not confine.version():
        report(
            "[yellow]warning[/]: this kernel has no Landlock, so every login of this machine can run programs as this"
        )
        report("         user through the ports of Chromium and ChromeDriver, see `bisnesctl help security`")


def missing_wa_js(settings: Settings) -> str:
    """Why WhatsApp Web numbers cannot run because of wa-js, which a wheel does not have; empty if it is there."""
    if not settings.enable_wwebjs:
        return ""
    try:
        wajs.bundle(settings)
    except ConfigError as error:
        return f"WhatsApp Web numbers cannot run yet: {error}"
    return ""


# --- The machine ---------------------------------------------------------------------------------------------------


def find_orphans(settings: Settings) -> dict[int, str]:
    """Processes that an earlier supervisord of the same `.env` started and that outlived it: pid → name.

    They get a signal to stop when supervisord is killed, and may take a while. Processes of other users are not found.
    """
    found = {}
    server = f"unix://{paths.supervisor_socket(settings.run_dir)}"  # another supervisord may run this command
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # gone, or another user's
        if (
            environment.get("BISNES_ENV") == str(settings.env_file)
            and environment.get("SUPERVISOR_SERVER_URL") == server
        ):
            found[process.pid] = environment.get("SUPERVISOR_PROCESS_NAME", "")
    return found


def wait_for_orphans(settings: Settings, report: Report) -> None:
    """Waits until all orphans have ended. Raises `Conflict` that names those that have not.

    The evaluator is ended: it waits for an alert about supervisord, which this command mutes. The next one continues
    its deliveries. PostgreSQL is stopped at once after a while.
    """
    orphans = find_orphans(settings)
    if orphans:
        report(f"waiting for {', '.join(sorted(set(orphans.values())))} of an earlier run to end")
    began = time.monotonic()
    while alive := [pid for pid in orphans if process_stat.is_alive(pid)]:
        waited = time.monotonic() - began
        if waited > ORPHANS_TIMEOUT_SECONDS:
            names = ", ".join(f"{orphans[pid]} (pid {pid})" for pid in alive)
            raise Conflict(f"processes of an earlier run have not ended: {names}. End them with `kill -9`, start again")
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                if orphans[pid] == EVALUATOR:
                    os.kill(pid, signal.SIGTERM)
                elif orphans[pid] == "postgres" and waited > POSTGRES_TIMEOUT_SECONDS:
                    os.kill(pid, signal.SIGQUIT)
        time.sleep(0.1)


# --- Ports ---------------------------------------------------------------------------------------------------------


def check_ports(settings: Settings, wanted: Sequence[Instance], binding: Sequence[Instance]) -> None:
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


# --- Servers -------------------------------------------------------------------------------------------------------


def check_connections(connection: postgres.Connection, settings: Settings, report: Report) -> None:
    """Compares the connections that the processes may open with those that PostgreSQL allows, and reports too few.

    Raises `ConfigError` if the processes could not even start with them.
    """
    allowed = postgres.allowed_connections(connection)
    most = embedded_servers.most_connections(settings)
    least = LEAST_CONNECTIONS * (settings.api_instances + settings.meta_instances + OTHER_PROCESSES)
    if allowed >= most:
        return
    text = (
        f"the processes may open {most} connections to PostgreSQL (API_INSTANCES, DATABASE_POOL_API_MAX, "
        "META_INSTANCES, DATABASE_POOL_META_MAX, DATABASE_POOL_WWEBJS_MAX, MAX_SESSIONS in "
        f"{settings.env_file}), and it allows {allowed} (max_connections): raise that, or lower these settings"
    )
    if allowed < least:
        raise ConfigError(f"{text}; {least} are the least")
    report(f"[yellow]too few connections[/]: {text}")
