"""All checks of `bisnesctl doctor`, in the order in which a failed one explains those after it."""

from collections.abc import Callable, Sequence
from typing import Any

from bisnesctl.doctor import browser_checks as browser
from bisnesctl.doctor import machine_checks as machine
from bisnesctl.doctor import network_checks as network
from bisnesctl.doctor import server_checks as server
from bisnesctl.doctor import setup_checks as setup
from bisnesctl.doctor.finding import Check, Finding
from bisnesctl.doctor.subject import Subject
from bisnesctl.errors import ExitCode, UsageError


def _row(name: str, run: Callable[[Subject], Finding], **more: Any) -> Check:
    return Check(name, (run.__doc__ or "").strip(), run, **more)


def _embedded(subject: Subject) -> str:
    return "PostgreSQL is the embedded one" if subject.settings.embedded_postgres else server.no_postgres(subject)


#: Before a start and a deploy.
CHECKS: tuple[Check, ...] = (
    _row("setup.settings", setup.settings_valid),
    _row("setup.encryption-key", setup.encryption_key),
    _row("setup.env-file", setup.env_private, kind=ExitCode.CONFLICT),
    _row("setup.home", setup.home_private, kind=ExitCode.CONFLICT),
    _row("python.version", setup.python_version),
    _row("python.packages", setup.packages),
    _row("postgresql.answers", server.postgres_answers, kind=ExitCode.UNAVAILABLE),
    _row("postgresql.version", server.postgres_version, not_applicable=server.no_postgres),
    _row("postgresql.encoding", server.postgres_encoding, not_applicable=server.no_postgres),
    _row("postgresql.pooler", server.postgres_pooler, not_applicable=_embedded, seconds=20),
    _row("postgresql.writable", server.postgres_writable, not_applicable=server.no_postgres),
    _row("postgresql.privileges", server.postgres_privileges, not_applicable=server.no_postgres),
    _row("postgresql.connections", server.postgres_connections, not_applicable=server.no_postgres),
    _row("postgresql.migrations", server.migrated, not_applicable=server.no_postgres),
    _row("postgresql.credentials", server.credentials_readable, not_applicable=server.no_postgres),
    _row("postgresql.clock", server.postgres_clock, not_applicable=server.no_postgres, kind=ExitCode.CONFLICT),
    _row("redis.answers", server.redis_answers, kind=ExitCode.UNAVAILABLE),
    _row("redis.version", server.redis_version, not_applicable=server.no_redis),
    _row("redis.eviction", server.redis_eviction, not_applicable=server.no_redis),
    _row("redis.memory", server.redis_memory, not_applicable=server.no_redis),
    _row("redis.persistence", server.redis_persistence, not_applicable=server.no_redis, kind=ExitCode.UNAVAILABLE),
    _row("web.chromium", browser.chromium, not_applicable=browser.no_web),
    _row("web.chromedriver", browser.driver, not_applicable=browser.no_web, seconds=15),
    _row("web.wa-js", browser.wa_js, not_applicable=browser.no_web),
    _row("web.sandbox", browser.sandbox, not_applicable=browser.no_web),
    _row("web.landlock", browser.landlock, not_applicable=browser.no_web),
    _row("machine.shared-memory", browser.shared_memory),
    _row("machine.util-linux", machine.util_linux),
    _row("machine.memory", machine.memory),
    _row("machine.open-files", machine.open_files),
    _row("machine.processes", machine.processes),
    _row("machine.disks", machine.disks, kind=ExitCode.CONFLICT),
    _row("machine.ports", machine.listening_ports, kind=ExitCode.CONFLICT),
    _row("machine.boot", machine.boot),
    _row("network.names", network.host_names, not_applicable=network.in_sandbox, kind=ExitCode.UNAVAILABLE),
    _row("network.providers", network.providers, not_applicable=network.in_sandbox, seconds=15),
    _row("network.trusted-proxies", network.trusted_proxies, not_applicable=network.in_sandbox),
    _row("network.public-url", network.public_address, not_applicable=network.no_public_address, seconds=10),
)
#: Before a deploy only.
DEPLOY_CHECKS: tuple[Check, ...] = (_row("deploy.health", machine.running_health, kind=ExitCode.UNHEALTHY, seconds=20),)


def choose(names: Sequence[str], deploy: bool) -> list[Check]:
    """The checks with these names or of these groups, all if none is named. Raises `UsageError`."""
    checks = [*CHECKS, *(DEPLOY_CHECKS if deploy else ())]
    known = {each.name for each in checks} | {each.group for each in checks}
    unknown = [each for each in names if each not in known]
    if unknown:
        groups = ", ".join(dict.fromkeys(each.group for each in checks))
        raise UsageError(f"there is no check {unknown[0]}: name one as `bisnesctl doctor` shows it, or one of {groups}")
    return [each for each in checks if not names or each.name in names or each.group in names]
