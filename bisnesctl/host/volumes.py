"""The disks that a deployment writes to: how full they are, and whether they can be written."""

import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bisnesctl import formatting, paths
from bisnesctl.host import disk
from bisnesctl.host.bounded_call import BoundedCall
from bisnesctl.settings import Settings

#: Percent of a disk's space or inodes that should be free. The settings DISK_WARNING_MB and DISK_CRITICAL_MB are limits
#: in megabytes; the smaller limit counts, so that large disks can be used.
WARNING_PERCENT = 10
CRITICAL_PERCENT = 2
#: Free inodes that are always enough.
WARNING_INODES = 10_000
CRITICAL_INODES = 1_000
#: Seconds in which a disk must say that it has a folder, and then be written; a network disk or a failing disk may
#: never answer.
PLACE_TIMEOUT_SECONDS, TIMEOUT_SECONDS = 2.0, 5.0


@dataclass(frozen=True)
class DiskTrouble:
    """A disk that needs an operator."""

    #: The mount point.
    mount: str
    #: Whether files cannot be written now, or soon.
    critical: bool
    reason: str


@dataclass(frozen=True)
class Disk:
    """A disk that the deployment writes to."""

    #: The mount point.
    mount: str
    #: Bytes that may still be written, and bytes in all; None: it does not say.
    free: int | None = None
    total: int | None = None
    trouble: DiskTrouble | None = None


def look(settings: Settings) -> list[Disk]:
    """The disks that the deployment writes to. All are checked in parallel within the time limits."""
    groups, silent = _groups(settings)
    asked = [(group, BoundedCall(partial(_look, settings, group), "disk")) for group in groups]
    deadline = time.monotonic() + TIMEOUT_SECONDS
    return [*(_answer(group, call, deadline) for group, call in asked), *silent]


def troubled(settings: Settings) -> list[DiskTrouble]:
    """The disks that are nearly full or cannot be written."""
    return [each.trouble for each in look(settings) if each.trouble is not None]


def folders(settings: Settings) -> dict[str, Path]:
    """The folders that are written on this machine, by their purpose."""
    found = {"BISNES_HOME": settings.run_dir, "logs": settings.log_dir, "profiles": settings.profile_dir}
    if settings.embedded_postgres:
        found["PostgreSQL"] = paths.postgres_data(settings.server_home)
    if settings.embedded_redis:
        found["Redis"] = paths.redis_data(settings.server_home)
    if settings.media_dir is not None:
        found["media"] = settings.media_dir
    return found | {"temporary files": Path(tempfile.gettempdir())}


@dataclass(frozen=True)
class _Group:
    """The folders on one disk."""

    names: list[str]
    paths: list[Path]  # they exist


def _groups(settings: Settings) -> tuple[list[_Group], list[Disk]]:
    """The folders by their disks, and the disks that do not say which one they are."""
    groups: dict[tuple[int, Path], _Group] = {}
    silent: list[Disk] = []
    asked = [(name, path, BoundedCall(partial(_place, path), "disk")) for name, path in folders(settings).items()]
    deadline = time.monotonic() + PLACE_TIMEOUT_SECONDS
    for name, path, call in asked:
        try:
            device, mount, place = call.within(deadline - time.monotonic())
        except TimeoutError:
            reason = f"it did not answer within {PLACE_TIMEOUT_SECONDS:g} s ({name})"
            silent.append(Disk(str(path), trouble=DiskTrouble(str(path), False, reason)))
            continue
        group = groups.setdefault((device, mount), _Group([], []))
        group.names.append(name)
        group.paths.append(place)
    return list(groups.values()), silent


def _place(path: Path) -> tuple[int, Path, Path]:
    """The device and the mount point of a folder, and the nearest one above that exists."""
    place = disk.existing(path)
    return place.stat().st_dev, disk.mount_of(place), place


def _answer(group: _Group, call: BoundedCall[Disk], deadline: float) -> Disk:
    try:
        return call.within(deadline - time.monotonic())
    except TimeoutError:  # busy, perhaps: that alone is not critical
        mount = str(group.paths[0])
        reason = f"a write took more than {TIMEOUT_SECONDS:g} s ({_of(group)})"
        return Disk(mount, trouble=DiskTrouble(mount, False, reason))


def _look(settings: Settings, group: _Group) -> Disk:
    place = group.paths[0]
    mount = str(disk.mount_of(place))
    try:
        found = os.statvfs(place)
    except OSError as error:
        return Disk(mount, trouble=DiskTrouble(mount, True, disk.reason(error, place)))
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    for path in dict.fromkeys(group.paths):
        if refusal := disk.write_refusal(path):
            return Disk(mount, free, total, DiskTrouble(mount, True, f"{path} cannot be written: {refusal}"))
    return Disk(mount, free, total, _scarcity(settings, group, mount, found))


def _scarcity(settings: Settings, group: _Group, mount: str, found: os.statvfs_result) -> DiskTrouble | None:
    """Whether space or inodes are scarce."""
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    bad = _is_little(free, total, settings.disk_critical_mb << 20, CRITICAL_PERCENT)
    few = found.f_files > 0 and _is_little(found.f_favail, found.f_files, CRITICAL_INODES, CRITICAL_PERCENT)
    if bad or _is_little(free, total, settings.disk_warning_mb << 20, WARNING_PERCENT):
        return DiskTrouble(mount, bad, f"{formatting.size(free)} free of {formatting.size(total)} ({_of(group)})")
    if few or (found.f_files > 0 and _is_little(found.f_favail, found.f_files, WARNING_INODES, WARNING_PERCENT)):
        return DiskTrouble(mount, few, f"{found.f_favail} inodes free of {found.f_files} ({_of(group)})")
    return None


def _is_little(free: int, total: int, enough: int, percent: int) -> bool:
    return free < min(enough, total * percent / 100)


def _of(group: _Group) -> str:
    return ", ".join(group.names)
