"""Paths: the data and sockets of the embedded servers, and the files that are shipped with the program.

PostgreSQL refuses to run as root, so root starts it as another user (`SERVER_USER`), who cannot enter a home below a
folder with mode 0700, such as /root. Paths of sockets must be short: the kernel accepts 107 bytes.
"""

import hashlib
import os
import stat
from pathlib import Path

#: The system user that runs the embedded servers if root starts bisnesctl.
SERVER_USER = "bisnes"
#: Folder for the servers' files if root starts them and SERVER_USER cannot reach the home.
ROOT_STATE = Path("/var/lib/bisnesctl")
#: Bytes in the path of a socket's folder, at most, so that `/.s.PGSQL.5432.lock` fits after it.
MAX_SOCKET_FOLDER_BYTES = 80

#: The folder of the installed releases, below the home; in it, the link to the current one.
RELEASES = "releases"
CURRENT = "current"

_PACKAGE = Path(__file__).parent


def shipped_folder(name: str) -> Path:
    """The folder of shipped files called `name`: `conf` (templates, env.example), `docs` or `sql` (migrations).

    It lies inside an installed package, and beside the package in a checkout.
    """
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def releases(home: Path) -> Path:
    """The folder of the releases of `home`: each is a virtual environment, whose name is its number."""
    return home / RELEASES


def current_release(home: Path) -> Path:
    """The link to the release that runs `home`. It is missing if a checkout runs it."""
    return releases(home) / CURRENT


def current_tool(home: Path) -> Path | None:
    """The `bisnesctl` of the current release, whichever that is when it is run; None if a checkout runs."""
    program = current_release(home) / "bin" / "bisnesctl"
    return program if program.is_file() else None


def server_home(home: Path) -> Path:
    """The folder of the embedded servers of `home`. If it has data already, it does not change."""
    elsewhere = ROOT_STATE / _fingerprint(home)
    if os.geteuid() != 0 or (home / "postgres").exists():
        return home
    return home if reachable(home) and not elsewhere.exists() else elsewhere


def reachable(folder: Path) -> bool:
    """Whether every user may enter `folder` and all folders above it."""
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
    """A folder below /tmp with a short path, instead of `folder`. The caller makes it 0700 and checks its owner."""
    return Path("/tmp", f"bisnesctl-{_fingerprint(folder)}")  # noqa: S108


def _sockets(server_home: Path) -> Path:
    folder = server_home / "sockets"
    return folder if _holds_sockets(folder / "postgres") else private_tmp(server_home)


def _holds_sockets(folder: Path) -> bool:
    """Whether the path is short enough and has no comma, which libpq reads as a list."""
    return len(os.fsencode(folder)) <= MAX_SOCKET_FOLDER_BYTES and "," not in str(folder)


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
