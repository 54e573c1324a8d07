"""The time zone of supervisord, which writes local times, as do the servers that it starts."""

import contextlib
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from bisnesctl.host import process_environment

_SYSTEM_ZONE = Path("/etc/localtime")


def zone_of(pid: int) -> tzinfo | None:
    """The zone in which a process writes its times; None: that of this process, as far as can be seen."""
    environment = process_environment.read(pid) if pid else {}
    if not environment:
        return None
    name = environment.get("TZ", "").removeprefix(":")
    with contextlib.suppress(ValueError, OSError, KeyError):
        if name:
            return ZoneInfo(name)
        with _SYSTEM_ZONE.open("rb") as stream:
            return ZoneInfo.from_file(stream, "local")
    return None
