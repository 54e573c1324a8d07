"""Explains why a file cannot be written, and writes files safely, even on a full disk if possible."""

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

#: Errors of a disk, as opposed to errors of a path.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: Free bytes below which a disk counts as full.
_FULL_BELOW_BYTES = 1 << 20
#: Content of the test file: one page, the smallest unit that a disk allocates.
_TEST_CONTENT = bytes(4096)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Wraps code that writes `path`. Raises `CannotWrite` with the reason and the next step."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(explain(error, path)) from error


def explain(error: OSError, path: Path) -> str:
    """One line: why `path` could not be written, and what to do."""
    return f"{path} cannot be written: {reason(error, path)}"


def reason(error: OSError, path: Path) -> str:
    """The reason without the path: a full, read-only or failing disk, a quota, or another user's folder."""
    place = existing(path)
    code = errno.ENOSPC if error.errno is None and _is_full(place) else error.errno  # shutil.Error has none
    match code:
        case errno.ENOSPC:
            return f"{_fullness(place)}, then try again"
        case errno.EDQUOT:
            return f"the disk quota of {_name_of(os.geteuid())} is exhausted: free some space, or have the quota raised"
        case errno.EROFS:
            return f"the disk is mounted read-only: see `dmesg`, then mount {mount_of(place)} writable"
        case errno.EIO:
            return "the disk is failing (input/output error): see `dmesg`"
        case errno.EACCES | errno.EPERM:
            return _forbidden(path, place)
        case _:
            return f"{(error.strerror or str(error)).lower()}: set another BISNES_HOME, or repair that folder"


def is_of_disk(error: OSError) -> bool:
    """Whether the disk is full, read-only or broken; otherwise the path is wrong."""
    return error.errno in _DISK_ERRORS


def explain_forbidden(path: Path) -> str:
    """One line: this user may not use `path`, and who may."""
    place = existing(path)
    found = place.stat()
    if found.st_uid == os.geteuid():
        return f"{path}: permission denied. {place} is yours: `chmod u+rwX {place}` permits it"
    owner = _name_of(found.st_uid)
    return f"{path}: permission denied. It belongs to {owner}: type the command as that user, with `sudo -u {owner}`"


def is_readable(path: Path) -> bool:
    """Whether this user may read a path, or it does not exist."""
    return os.access(path, os.R_OK, effective_ids=True) or not os.access(path, os.F_OK, effective_ids=True)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists and is accessible."""
    for each in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            each.stat()
            return each
    return Path("/")


def mount_of(path: Path) -> Path:
    """The mount point of the disk of an existing path."""
    found = path.resolve()
    while not found.is_mount():
        found = found.parent
    return found


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Writes a file atomically: readers never see half of it, and a crash leaves the old file."""
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
    """Like `replace`, for a small file that is written often. On a full disk the file is overwritten in place, which
    needs no more space; for a moment a reader may see half of it."""
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
    """Why no file can be written to a folder, by trying it; None if it can, or if another user owns the folder."""
    path = folder / f".write-test.{secrets.token_hex(8)}"
    try:
        if folder.stat().st_uid != os.geteuid() and not folder.stat().st_mode & stat.S_ISVTX:
            return None
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(handle, _TEST_CONTENT) < len(_TEST_CONTENT):
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
    return found.f_bavail * found.f_frsize < _FULL_BELOW_BYTES or bool(found.f_files and not found.f_favail)


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
        return f"{place} belongs to {_name_of(owner)}: start as that user, or set another BISNES_HOME"
    if place == path.absolute() or not os.access(place, os.W_OK | os.X_OK):
        return f"its mode forbids it: `chmod u+rwX {place}`"
    return "the system forbids it (an immutable file, or a security policy such as SELinux or AppArmor)"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
