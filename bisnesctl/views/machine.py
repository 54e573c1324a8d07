"""The machine of a deployment: its load, memory and disks."""

import os
import socket
from dataclasses import dataclass

from bisnesctl.host import machine_memory, volumes
from bisnesctl.host.process_times import boottime
from bisnesctl.settings import Settings
from bisnesctl.signals import history


@dataclass(frozen=True)
class DiskUse:
    """A disk that the deployment writes to."""

    #: The mount point.
    mount: str
    #: Bytes that may still be written, and bytes in all; None: the disk did not answer.
    free_bytes: int | None
    total_bytes: int | None
    #: Seconds until it is full at the present rate; None: it does not fill, or no trend is known yet.
    full_in_seconds: float | None
    trouble: volumes.DiskTrouble | None


@dataclass(frozen=True)
class Machine:
    """The machine as it is now."""

    host: str
    #: Seconds since it was booted.
    uptime_seconds: float
    #: Averages of 1, 5 and 15 minutes.
    load: tuple[float, float, float]
    processors: int
    memory_used_bytes: int
    memory_total_bytes: int
    disks: list[DiskUse]


def look(settings: Settings) -> Machine:
    """Measures the machine. Disks are asked within their own time limit."""
    memory, past = machine_memory.read(), history.read(settings.run_dir)
    return Machine(
        host=socket.gethostname(),
        uptime_seconds=boottime(),
        load=os.getloadavg(),
        processors=os.cpu_count() or 1,
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        disks=[
            DiskUse(
                each.mount,
                each.free,
                each.total,
                history.empty_in(past.get(history.free_space_name(each.mount), ())),
                each.trouble,
            )
            for each in volumes.look(settings)
        ],
    )
