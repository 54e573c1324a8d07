"""What to say where a file cannot be written, and how to write in spite of a full disk."""

import contextlib
import errno
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from bisnesctl import formatting
from bisnesctl.errors import CannotWrite

#: The errors of a disk, as against those of a path.
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: Bytes that are as good as none.
_SCRAP = 1 << 20
#: What a test writes: a page, the least that a disk gives.
_BLOCK = bytes(4096)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around whatever writes `path`. Raises `CannotWrite` with the reason and the next step."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(explain(error, path)) from error


def explain(error: OSError, path: Path) -> str:
    """Why `path` could not be written, and what to do about it: one line."""
    return f"{path} cannot be written: {reason(error, path)}"


def reason(error: OSError, path: Path) -> str:
    """The reason alone. It tells a full disk, a read-only one, a failing one and somebody else's folder apart."""
    place = existing(path)
    code = errno.ENOSPC if error.errno is None and _is_full(place) else error.errno  # shutil.Error has none
    match code:
        case errno.ENOSPC:
            return f"{_fullness(place)}, then try again"
        case errno.EDQUOT:
            return f"the disk quota of {_name_of(os.geteuid())} is used up: free some space, or have it raised"
        case errno.EROFS:
            return f"the disk is mounted read-only: see `dmesg`, then mount {mount_of(place)} writable"
        case errno.EIO:
            return "the disk fails (input/output error): see `dmesg`"
        case errno.EACCES | errno.EPERM:
            return _forbidden(path, place)
        case _:
            return f"{(error.strerror or str(error)).lower()}: set another BISNES_HOME, or see to that folder"


def is_of_disk(error: OSError) -> bool:
    """Whether the disk is full, read-only or broken, rather than the path wrong."""
    return error.errno in _OF_DISK


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that can be looked at."""
    for each in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            each.stat()
            return each
    return Path("/")


def mount_of(path: Path) -> Path:
    """Where the disk of an existing path is mounted."""
    found = path.resolve()
    while not found.is_mount():
        found = found.parent
    return found


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file in one step, so that nobody reads half of it and a crash leaves the old one."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as stream:
            stream.write(content)
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def refresh(path: Path, content: bytes) -> None:
    """Like `replace`, for a small file that is written over and over: on a full disk it is overwritten in its place,
    which takes no further space. Whoever reads it must bear half of one, for that moment."""
    try:
        replace(path, content)
    except OSError as error:
        if error.errno not in _NO_SPACE or not _fits(path, len(content)):
            raise
        _overwrite(path, content)


def _fits(path: Path, size: int) -> bool:
    try:
        return size <= path.stat().st_blocks * 512
    except OSError:
        return False


def _overwrite(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.pwrite(handle, content, 0) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.ftruncate(handle, len(content))
    finally:
        os.close(handle)


def write_refusal(folder: Path) -> str | None:
    """Why a folder of ours takes no file, by trying it; None where it does, or where it is somebody else's to write."""
    path = folder / f".write-test.{secrets.token_hex(8)}"
    try:
        if folder.stat().st_uid != os.geteuid() and not folder.stat().st_mode & stat.S_ISVTX:
            return None
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(handle, _BLOCK) < len(_BLOCK):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
            path.unlink(missing_ok=True)
    except OSError as error:
        return reason(error, folder)
    return None


def _is_full(place: Path) -> bool:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize < _SCRAP or bool(found.f_files and not found.f_favail)


def _fullness(place: Path) -> str:
    found = os.statvfs(place)
    mount = mount_of(place)
    if found.f_files and not found.f_favail:
        return f"the disk is full (no inode free of {found.f_files}): remove some files below {mount}"
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return f"the disk is full ({formatting.size(free)} free of {formatting.size(total)}): free some space on {mount}"


def _forbidden(path: Path, place: Path) -> str:
    owner = place.stat().st_uid
    if owner != os.geteuid():
        return f"{place} belongs to {_name_of(owner)}: start as the user who made it, or set another BISNES_HOME"
    if place == path.absolute() or not os.access(place, os.W_OK | os.X_OK):
        return f"its mode forbids it: `chmod u+rwX {place}`"
    return "the system forbids it (an immutable file, or a security policy such as SELinux or AppArmor)"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
