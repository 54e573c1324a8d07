"""The memory of the machine. Imports little: psutil, which knows it too, takes a while to import."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MachineMemory:
    """In bytes."""

    total: int
    #: Memory that programs can get without swapping.
    available: int


def read() -> MachineMemory:
    """The memory as it is now."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kibibytes = {words[0]: int(words[1]) for words in lines}
    return MachineMemory(kibibytes["MemTotal:"] * 1024, kibibytes["MemAvailable:"] * 1024)
