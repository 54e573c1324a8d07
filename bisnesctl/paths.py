"""Paths: the data and sockets of the embedded servers, and the files that are shipped with the program.

PostgreSQL refuses to run as root, so root starts it as another user (`SERVER_USER`), who cannot enter a home
below a folder such as /root with mode 0700. Sockets have short paths: the kernel takes 107 bytes.
"""

import hashlib
import os
import stat
from pathlib import Path

#: The system user that runs the embedded servers where bisnesctl is started as root.
SERVER_USER = "bisnes"
#: Where root puts the servers' files when SERVER_USER cannot reach the home.
ROOT_STATE = Path("/var/lib/bisnesctl")
#: Bytes that a socket's folder may have, so that `/.s.PGSQL.5432.lock` fits behind it.
SOCKET_FOLDER_BYTES = 80

_PACKAGE = Path(__file__).parent


def shipped_folder(name: str) -> Path:
    """The folder of shipped files called `name`: `conf` (templates, env.example), `docs` or `sql` (migrations).

    It lies inside an installed package, and beside the package in a checkout.
    """
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def server_home(home: Path) -> Path:
    """The folder of the embedded servers of `home`. Where data exists already, it stays the one."""
    elsewhere = ROOT_STATE / _fingerprint(home)
    if os.geteuid() != 0 or (home / "postgres").exists():
        return home
    return home if reachable(home) and not elsewhere.exists() else elsewhere


def reachable(folder: Path) -> bool:
    """Whether any user may enter every existing folder above and including `folder`."""
    existing = [each for each in (folder, *folder.parents) if each.is_dir()]
    return all(each.stat().st_mode & stat.S_IXOTH for each in existing)


def postgres_data(server_home: Path) -> Path:
    """PostgreSQL's data directory."""
    return server_home / "postgres"


def redis_data(server_home: Path) -> Path:
    """The folder of Redis's append-only file."""
    return server_home / "redis"


def postgres_sockets(server_home: Path) -> Path:
    """The folder of PostgreSQL's socket, 0700."""
    return _sockets(server_home) / "postgres"


def redis_socket(server_home: Path) -> Path:
    """The path of Redis's socket, in a folder with mode 0700."""
    return _sockets(server_home) / "redis" / "redis.sock"


def supervisor_socket(run_dir: Path) -> Path:
    """The path of supervisord's socket, 0700."""
    folder = run_dir if _holds_sockets(run_dir) else private_tmp(run_dir)
    return folder / "supervisor.sock"


def private_tmp(folder: Path) -> Path:
    """A short folder below /tmp that stands in for `folder`, made 0700 and checked by its user."""
    return Path("/tmp", f"bisnesctl-{_fingerprint(folder)}")  # noqa: S108


def _sockets(server_home: Path) -> Path:
    folder = server_home / "sockets"
    return folder if _holds_sockets(folder / "postgres") else private_tmp(server_home)


def _holds_sockets(folder: Path) -> bool:
    """Whether the path is short enough, and without the comma that libpq takes for a list."""
    return len(os.fsencode(folder)) <= SOCKET_FOLDER_BYTES and "," not in str(folder)


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
