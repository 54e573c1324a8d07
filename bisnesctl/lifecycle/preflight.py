"""Conditions of a start: an `.env`, packages, secrets, free ports, no orphans, a migrated database, Redis.

Each is checked, or provided, before the programs that need it start, so that a start fails early with a reason.
"""

import contextlib
import errno
import importlib.util
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bisnesctl import paths, wajs
from bisnesctl.bots import credentials
from bisnesctl.database import api_keys, migrations, postgres
from bisnesctl.errors import (
    ConfigError,
    Conflict,
    DatabaseUnavailable,
    MigrationsPending,
    PortTaken,
    RedisUnavailable,
)
from bisnesctl.health import probes
from bisnesctl.host import disk, process_stat
from bisnesctl.paths import shipped_folder
from bisnesctl.processes import embedded_servers
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings, load

#: Seconds that orphans get to end, which is longer than any program takes to stop.
ORPHANS_TIMEOUT_SECONDS = 65.0
#: Label of the key OPERATOR_KEY in `bisnesctl keys list`.
OPERATOR_LABEL = "operator (.env)"
#: Connections to PostgreSQL without which a process does not work.
LEAST_CONNECTIONS = 3
#: Processes with connections beside the APIs and the workers of Meta: events, receiver and manager.
OTHER_PROCESSES = 3
#: Characters of a command line that an error shows.
_MAX_COMMAND_LENGTH = 100

#: Secrets that are generated for a new `.env`.
SECRETS: dict[str, Callable[[], str]] = {
    "ENCRYPTION_KEY": lambda: secrets.token_hex(32),
    "OPERATOR_KEY": api_keys.generate,
    "META_APP_SECRET": lambda: secrets.token_hex(16),
    "META_VERIFY_TOKEN": lambda: secrets.token_urlsafe(24),
}

Report = Callable[[str], None]


def check(settings: Settings, instances: Iterable[Instance], report: Report, orphans: bool) -> None:
    """Checks everything that must hold before these instances start.

    `orphans`: whether processes of an earlier supervisord may still run, which are waited for. Raises `ConfigError`,
    `Conflict` or `PortTaken`.
    """
    check_installed()
    check_secrets(settings)
    if orphans:
        wait_for_orphans(settings, report)
    check_ports(instances)


# --- The settings --------------------------------------------------------------------------------------------------


def load_settings(report: Report) -> Settings:
    """The settings in force. If there are none, a new `.env` is written first."""
    settings = load()
    if not settings.env_file.exists() and not settings.encryption_key:
        create_env_file(settings, report)
        settings = load()
    return settings


def create_env_file(settings: Settings, report: Report) -> None:
    """Writes an `.env` with new secrets. Raises `Conflict` if it exists, `CannotWrite`.

    `settings`: those of the environment. ENCRYPTION_KEY stays empty if it is there, or if the database has credentials,
    which only their own key decrypts.
    """
    names = set(SECRETS)
    if settings.encryption_key:
        names.discard("ENCRYPTION_KEY")
        report("ENCRYPTION_KEY is in the environment and not written")
    elif _has_credentials(settings):
        names.discard("ENCRYPTION_KEY")
        report(
            "[yellow]the database has stored credentials[/]: enter the ENCRYPTION_KEY of the system that stored them "
            f"in {settings.env_file}"
        )
    write_env_file(settings.env_file, names)
    report(f"wrote {settings.env_file} with new secrets")


def _has_credentials(settings: Settings) -> bool:
    """Whether an external database can be reached and has stored credentials."""
    if settings.embedded_postgres:
        return False
    with contextlib.suppress(DatabaseUnavailable, ConfigError), postgres.command_connection(settings) as connection:
        return any(each.used for each in credentials.stored(connection))
    return False


def write_env_file(path: Path, secret_names: Collection[str] = tuple(SECRETS)) -> None:
    """Writes an `.env` with these secrets, new, and mode 0600. Raises `Conflict` if it exists, `CannotWrite`."""
    text = with_secrets((shipped_folder("conf") / "env.example").read_text(), secret_names)
    with disk.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise Conflict(f"{path} exists already and is not changed: edit it, or move it first") from error
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(text)
        except OSError:
            path.unlink()  # half a file would count as all settings
            raise


def with_secrets(example: str, names: Collection[str] = tuple(SECRETS)) -> str:
    """The text with a new secret after each of these names of `SECRETS`."""
    for name in names:
        example = re.sub(rf"^{name}=$", f"{name}={SECRETS[name]()}", example, flags=re.MULTILINE)
    return example


def check_secrets(settings: Settings) -> None:
    """Raises `ConfigError` if ENCRYPTION_KEY is missing."""
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


def check_ports(instances: Iterable[Instance]) -> None:
    """Raises `PortTaken` or `ConfigError` if an instance cannot listen on its address."""
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
                f"port {port} of {instance.program.name} is in use by {_listener_on(port)}: end that process, or set "
                f"another {setting} in .env"
            ) from error
        reason = error.strerror or str(error)
        raise ConfigError(f"{instance.program.name} cannot listen on {host}, port {port}: {reason}") from error


def _listener_on(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())[:_MAX_COMMAND_LENGTH]
                return f"{process.name()} (pid {connection.pid}: {command})"
    return "a process of another user (`sudo ss -ltnp` shows it)"


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
    """Waits until all orphans have ended. Raises `Conflict` that names those that have not."""
    orphans = find_orphans(settings)
    if orphans:
        report(f"waiting for {', '.join(sorted(set(orphans.values())))} of an earlier run to end")
    deadline = time.monotonic() + ORPHANS_TIMEOUT_SECONDS
    while alive := [pid for pid in orphans if process_stat.is_alive(pid)]:
        if time.monotonic() > deadline:
            names = ", ".join(f"{orphans[pid]} (pid {pid})" for pid in alive)
            raise Conflict(f"processes of an earlier run have not ended: {names}. End them with `kill -9`, start again")
        time.sleep(0.1)


# --- Servers -------------------------------------------------------------------------------------------------------


def prepare_servers(settings: Settings, report: Report, migrate: bool, redis: bool, accept_lost: bool) -> None:
    """Prepares the database if `migrate`, and checks Redis if `redis`.

    `accept_lost`: stored credentials that ENCRYPTION_KEY does not decrypt prevent nothing. Raises as `prepare_database`
    and `check_redis` do.
    """
    if migrate:
        prepare_database(settings, report, accept_lost)
    if redis:
        check_redis(settings)


def prepare_database(settings: Settings, report: Report, accept_lost: bool = False) -> None:
    """Migrates the embedded database, or checks that an external one is migrated; then registers OPERATOR_KEY.

    Raises `DatabaseUnavailable`, `MigrationsPending`, `MigrationError`, or `ConfigError` if ENCRYPTION_KEY is not the
    key of the stored credentials, or PostgreSQL allows too few connections.
    """
    with postgres.command_connection(settings) as connection:
        credentials.check(connection, settings, report, accept_lost)
        if not settings.embedded_postgres:
            check_connections(connection, settings, report)
    if settings.embedded_postgres:
        applied = migrations.apply(settings.database_dsn, report=report)
        if applied:
            report(f"database: {len(applied)} migrations applied")
    else:
        check_migrated(settings)
    register_operator_key(settings)


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


def check_migrated(settings: Settings) -> None:
    """Raises `DatabaseUnavailable`, or `MigrationsPending` that names the missing migrations."""
    postgres.check_reachable(settings)
    pending = migrations.pending(settings.database_dsn)
    if pending:
        raise MigrationsPending(f"the database lacks {', '.join(pending)}: run `bisnesctl migrate`, then start again")


def register_operator_key(settings: Settings) -> None:
    """Registers OPERATOR_KEY as an operator's key; if it was revoked, it stays revoked."""
    key = settings.operator_key.get_secret_value()
    if not key:
        return
    with postgres.command_connection(settings) as connection:
        api_keys.register(connection, key, None, OPERATOR_LABEL)


def check_redis(settings: Settings) -> None:
    """Raises `RedisUnavailable` that names the address, without its password."""
    health = probes.redis(settings.redis_dsn)
    if not health.healthy:
        raise RedisUnavailable(
            f"Redis at {_address(settings.redis_dsn)} does not answer: {health.reason}. "
            f"See REDIS_URL or REDIS_HOST in {settings.env_file}"
        )


def _address(url: str) -> str:
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
