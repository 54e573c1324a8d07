"""What the guard says: whether it is on duty, and what becomes of a process that ended.

Its file `run/guard.json` holds its `pid`, the `beat_boottime` of its last sign of life (seconds of CLOCK_BOOTTIME) and,
for each of the `instances` that ended by itself, the `decision` about it: `restart` or `block` until `at` (seconds since
the epoch; none: until somebody starts it), or `fail`; with the `reason`, and the number of quick `deaths` in a row.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisnesctl.settings import Settings
from bisnesctl.supervisor import Process

#: The guard's instance, and its file below `run_dir`.
NAME, FILE = "guard", "guard.json"


@dataclass(frozen=True)
class Word:
    """The guard's decision about an instance: `restart`, `block` or `fail`."""

    decision: str
    reason: str
    #: Quick deaths in a row.
    deaths: int


@dataclass(frozen=True)
class Guard:
    """The guard as it is now."""

    #: Why it does not restart anything; empty where it is on duty.
    off_duty: str
    words: Mapping[str, Word]
