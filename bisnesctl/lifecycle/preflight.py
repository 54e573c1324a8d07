"""Conditions of a start: an `.env`, packages, secrets, free ports, no orphans, a migrated database, Redis.

Each is checked, or provided, before the programs that need it start, so that a start fails early with a reason.
"""

import contextlib
import importlib.util
import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bisnesctl import addresses, paths, wajs
from bisnesctl.bots import credentials
from bisnesctl.database import api_keys, deployments, media_store, migrations, postgres
from bisnesctl.errors import (
    ConfigError,
    Conflict,
    DatabaseUnavailable,
    MigrationsPending,
    RedisUnavailable,
)
from bisnesctl.health import probes
from bisnesctl.host import confine, disk, process_stat
from bisnesctl.host.absence import absence
from bisnesctl.lifecycle import ports
from bisnesctl.paths import shipped_folder
from bisnesctl.processes import embedded_servers
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings, load_partly

#: Seconds that orphans get to end, which is longer than any program takes to stop.
ORPHANS_TIMEOUT_SECONDS = 65.0
#: Seconds after which an orphaned PostgreSQL is stopped without waiting for anything; its log loses nothing. A usual
#: stop of PostgreSQL 18 while it recovers from a crash may never end.
POSTGRES_TIMEOUT_SECONDS = 15.0
#: The program that evaluates the signals.
EVALUATOR = "alerts"
#: Label of the key OPERATOR_KEY in `bisnesctl keys list`.
OPERATOR_LABEL = "operator (.env)"
#: Connections to PostgreSQL without which a process does not work.
LEAST_CONNECTIONS = 3
#: Processes with connections beside the APIs and the workers of Meta: events, receiver and manager.
OTHER_PROCESSES = 3

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
    wanted = list(instances)
    ports.check(settings, wanted, wanted)


# --- The settings --------------------------------------------------------------------------------------------------


def ensure_env_file(report: Report) -> Settings:
    """The settings. If there are none, an `.env` is written, in a checkout or where BISNES_ENV names it.

    Raises `NoDeployment` elsewhere: a start in a wrong directory would make another deployment.
    """
    settings = load_partly()
    path = settings.env_file
    if path.exists() or settings.problems or settings.encryption_key:
        return settings
    if not os.environ.get("BISNES_ENV") and not is_checkout(path.parent):
        raise absence(settings)
    create_env_file(settings, report)
    return load_partly()


def is_checkout(folder: Path) -> bool:
    """Whether a folder is a checkout of this project."""
    return (folder / "bisnesctl" / "__main__.py").is_file() and (folder / "conf" / "env.example").is_file()


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


# --- Servers -------------------------------------------------------------------------------------------------------


def prepare_servers(settings: Settings, report: Report, migrate: bool, redis: bool, accept_lost: bool) -> None:
    """Prepares the database if `migrate`, otherwise only checks it; checks Redis if `redis`.

    `accept_lost`: stored credentials that ENCRYPTION_KEY does not decrypt prevent nothing. Raises as `prepare_database`
    and `check_redis` do.
    """
    if migrate:
        prepare_database(settings, report, accept_lost)
    else:
        check_migrated(settings)
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


def check_machine(settings: Settings, report: Report, adopt_media_store: bool) -> None:
    """Checks that this machine may work on the database beside others, and registers its media store.

    Raises `Conflict` if another deployment has the same names, `ConfigError` if the media store is another one. An
    embedded database has no other machines, so a new folder is adopted.
    """
    with postgres.command_connection(settings) as connection:
        deployments.wait_until_alone(connection, settings, report)
        media_store.check(connection, settings, adopt_media_store or settings.embedded_postgres)


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
    postgres.check_usable(settings)
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
        field = "redis_url" if settings.redis_url is not None else "redis_host"
        place = "`bisnesctl logs redis`" if settings.embedded_redis else settings.where(field)
        raise RedisUnavailable(f"Redis{_address(settings.redis_dsn)}: {health.reason}. See {place}")


def _address(url: str) -> str:
    """The address in a URL, for a message; empty if it may have parts of the password."""
    if addresses.ends_early(url):
        return ""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f" at {parts.path}"
    try:
        return f" at {addresses.host_and_port(parts.hostname or '', parts.port or 6379)}"
    except ValueError:  # the port is no number
        return ""
