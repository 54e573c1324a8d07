"""Checks of PostgreSQL and Redis."""

import time
from typing import Any

from bisnesctl.bots import credentials
from bisnesctl.database import migrations, pooler, postgres
from bisnesctl.doctor.finding import Finding, error, ok, warning
from bisnesctl.doctor.subject import SERVER_TIMEOUT_SECONDS, Subject
from bisnesctl.errors import BisnesError
from bisnesctl.formatting import duration, size
from bisnesctl.health import redis_errors
from bisnesctl.lifecycle.preflight import LEAST_CONNECTIONS, OTHER_PROCESSES
from bisnesctl.processes import embedded_servers

#: The oldest PostgreSQL, as `server_version_num`, and the oldest Redis.
OLDEST_POSTGRES, OLDEST_REDIS = 120_000, (6, 2)
#: Differences of the clocks in seconds.
CLOCK_WARNING_SECONDS, CLOCK_ERROR_SECONDS = 2.0, 30.0
#: The part of its memory at which Redis soon refuses to store.
REDIS_FULL = 0.9


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def no_postgres(subject: Subject) -> str:
    """Why PostgreSQL cannot be examined; empty if it answers."""
    if subject.settings.embedded_postgres and not subject.runs_program("postgres"):
        return "the embedded PostgreSQL does not run; `bisnesctl start` starts it"
    try:
        subject.postgres.value()
    except Exception:
        return "PostgreSQL does not answer"
    return ""


def postgres_answers(subject: Subject) -> Finding:
    """PostgreSQL answers, or the embedded one can be started."""
    settings = subject.settings
    if settings.embedded_postgres:
        folder = embedded_servers.postgres_bin(settings)
        if not subject.runs_program("postgres"):
            return ok(f"the embedded server is installed in {folder}; `bisnesctl start` starts it")
    found = subject.postgres.value()
    return ok(f"database {found.database} answers as user {found.user}")


def postgres_version(subject: Subject) -> Finding:
    """PostgreSQL is 12 or newer."""
    found = subject.postgres.value()
    if found.version < OLDEST_POSTGRES:
        return error(f"version {found.version_text}", "12 or newer", "upgrade PostgreSQL, see `man pg_upgradecluster`")
    return ok(found.version_text)


def postgres_encoding(subject: Subject) -> Finding:
    """The database has the encoding UTF8."""
    found = subject.postgres.value()
    if found.encoding != "UTF8":
        fix = "createdb --encoding=UTF8 --template=template0 NAME, then name it in DATABASE_URL"
        return error(f"database {found.database} has the encoding {found.encoding}", "UTF8", fix)
    return ok("UTF8")


def postgres_writable(subject: Subject) -> Finding:
    """PostgreSQL is no standby, and transactions may write."""
    found = subject.postgres.value()
    if found.in_recovery:
        return error("the server is a standby", "the primary server", "name the primary server in DATABASE_URL")
    if found.read_only:
        fix = f"ALTER DATABASE {found.database} SET default_transaction_read_only = off"
        return error("transactions are read-only", "transactions may write", fix)
    return ok("it can store")


def postgres_privileges(subject: Subject) -> Finding:
    """The user may create tables (for migrations) and temporary tables."""
    found = subject.postgres.value()
    if not found.may_create:
        fix = f"GRANT CREATE ON SCHEMA public TO {found.user}"
        return error(f"{found.user} may not create tables", "it may, for `bisnesctl migrate`", fix)
    if not found.may_create_temporary:
        fix = f"GRANT TEMPORARY ON DATABASE {found.database} TO {found.user}"
        return warning(f"{found.user} may not create temporary tables", "it may, for the test of writing", fix)
    return ok(f"{found.user} may create tables")


def postgres_pooler(subject: Subject) -> Finding:
    """A pooler in front of PostgreSQL keeps a connection for each client, as locks and LISTEN need."""
    settings = subject.settings
    with postgres.translated(f"See {settings.where('database_url')}", settings.database_dsn):
        pooler.check(settings.database_dsn, SERVER_TIMEOUT_SECONDS)
    return ok("none, or in session mode")


def postgres_connections(subject: Subject) -> Finding:
    """max_connections is enough for all pools of all instances, beside the connections of other programs."""
    settings, found = subject.settings, subject.postgres.value()
    allowed = found.max_connections - found.reserved_connections - found.other_connections
    most = embedded_servers.most_connections(settings)
    least = LEAST_CONNECTIONS * (settings.api_instances + settings.meta_instances + OTHER_PROCESSES)
    text = (
        f"{allowed} of max_connections={found.max_connections} are left ({found.reserved_connections} reserved, "
        f"{found.other_connections} of other programs); the pools of all instances need up to {most}"
    )
    if allowed >= most:
        return ok(text)
    needed = most + found.reserved_connections + found.other_connections
    fix = (
        f"ALTER SYSTEM SET max_connections = {needed}, then restart PostgreSQL; or lower API_INSTANCES, DATABASE_POOL_…"
    )
    return (error if allowed < least else warning)(text, f"max_connections of {needed} or more", fix)


def postgres_clock(subject: Subject) -> Finding:
    """The clocks of this machine and of PostgreSQL agree."""
    before = time.time()
    with postgres.connected(subject.settings.database_dsn, timeout=SERVER_TIMEOUT_SECONDS) as connection:
        asked = time.time()
        there = float(postgres.query(connection, "SELECT extract(epoch FROM clock_timestamp())::float")[0][0])
        now = time.time()
    if now < before:
        return warning("the clock was set back during the check", "a steady clock", "timedatectl set-ntp true")
    difference = there - (asked + now) / 2
    text = f"PostgreSQL's clock is {abs(difference):.1f} s {'ahead' if difference > 0 else 'behind'}"
    if abs(difference) < CLOCK_WARNING_SECONDS:
        return ok(text)
    report = error if abs(difference) >= CLOCK_ERROR_SECONDS else warning
    return report(text, f"less than {CLOCK_WARNING_SECONDS:g} s apart", "timedatectl set-ntp true, on both machines")


def migrated(subject: Subject) -> Finding:
    """All migrations are applied."""
    pending = migrations.pending(subject.settings.database_dsn)
    if not pending:
        return ok("all are applied")
    names = ", ".join(pending[:3]) + (f" and {len(pending) - 3} more" if len(pending) > 3 else "")
    if subject.settings.embedded_postgres:
        return warning(f"pending: {names}", "all are applied", "bisnesctl start applies them")
    return error(f"pending: {names}", "all are applied", "bisnesctl migrate")


def credentials_readable(subject: Subject) -> Finding:
    """ENCRYPTION_KEY decrypts the stored credentials."""
    lost: list[str] = []
    with postgres.connected(subject.settings.database_dsn, timeout=SERVER_TIMEOUT_SECONDS) as connection:
        try:
            credentials.check(connection, subject.settings, lost.append)
        except BisnesError as problem:
            return error(str(problem), "ENCRYPTION_KEY decrypts them", f"edit {subject.settings.env_file}")
    if lost:
        fix = "bisnesctl bots add … --token-stdin"
        return warning(lost[0].replace("[yellow]", "").replace("[/]", ""), "ENCRYPTION_KEY decrypts all", fix)
    return ok("ENCRYPTION_KEY decrypts all")


# --- Redis -----------------------------------------------------------------------------------------------------------


def no_redis(subject: Subject) -> str:
    """Why Redis cannot be examined; empty if it answers."""
    if subject.settings.embedded_redis and not subject.runs_program("redis"):
        return "the embedded Redis does not run; `bisnesctl start` starts it"
    try:
        subject.redis.value()
    except Exception:
        return "Redis does not answer"
    return ""


def redis_answers(subject: Subject) -> Finding:
    """Redis answers and is no replica, or the embedded one can be started."""
    settings = subject.settings
    if settings.embedded_redis:
        binary = embedded_servers.redis_server(settings)
        if not subject.runs_program("redis"):
            return ok(f"the embedded server is installed as {binary}; `bisnesctl start` starts it")
    fix = f"see {settings.where('redis_url')}"
    try:
        found = subject.redis.value()
    except Exception as problem:
        return error(redis_errors.explain(problem, SERVER_TIMEOUT_SECONDS), "it answers", fix)
    if found.get("loading"):
        return error("it is still loading its data", "it answers", "wait, then try again")
    if found.get("role") != "master":
        return error("it is a read-only replica", "the primary server", f"name the primary server; {fix}")
    return ok(f"it answers; up for {duration(found.get('uptime_in_seconds'))}")


def redis_version(subject: Subject) -> Finding:
    """Redis is 6.2 or newer (or Valkey)."""
    text = str(subject.redis.value().get("redis_version", "0"))
    numbers = tuple(int(each) for each in text.split(".")[:2] if each.isdigit())
    if numbers < OLDEST_REDIS:
        return error(f"version {text}", "6.2 or newer", "upgrade Redis")
    return ok(text)


def redis_eviction(subject: Subject) -> Finding:
    """Redis evicts nothing: a removed queue would delay messages."""
    found = subject.redis.value()
    policy = str(found.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and int(found.get("maxmemory", 0)):
        return warning(
            f"maxmemory-policy is {policy}", "noeviction", "redis-cli CONFIG SET maxmemory-policy noeviction"
        )
    return ok(policy)


def redis_memory(subject: Subject) -> Finding:
    """Redis has room."""
    found = subject.redis.value()
    used, most = int(found.get("used_memory", 0)), int(found.get("maxmemory", 0))
    if most and used >= most * REDIS_FULL:
        fix = "redis-cli CONFIG SET maxmemory 0 (no limit), or a larger number"
        return warning(f"{size(used)} of {size(most)} are used", "room for new entries", fix)
    return ok(f"{size(used)} used" + (f" of {size(most)}" if most else ""))


def redis_persistence(subject: Subject) -> Finding:
    """Redis' snapshots, if there are any, succeed: otherwise it refuses to write. It need not persist anything."""
    found = subject.redis.value()
    config: dict[str, Any] | None = found["config"]
    stops = (config or {}).get("stop-writes-on-bgsave-error", "yes") == "yes"
    if found.get("rdb_last_bgsave_status") == "err" and stops:
        fix = "redis-cli BGSAVE after its disk has space; or redis-cli CONFIG SET stop-writes-on-bgsave-error no"
        return error("its last snapshot failed, so it refuses to write", "snapshots succeed, or there are none", fix)
    if found.get("aof_enabled"):
        return ok("append-only file")
    if config is None:
        return ok("its configuration may not be read; nothing has to be persisted")
    return ok("snapshots" if config.get("save") else "none; nothing has to be persisted")
