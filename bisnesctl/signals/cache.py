"""The last measurement, in a file of the deployment: for those who must not wait, such as `/metrics`."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bisnesctl.host import disk, file_lock
from bisnesctl.signals import history
from bisnesctl.signals.history import Sample
from bisnesctl.signals.signal import Reading, Readings
from bisnesctl.signals.table import BY_NAME

#: The file, below `run_dir`.
CACHE_FILE = "signals.json"
#: The files that are locked while somebody measures for the cache, and while it is written, below `run_dir`.
MEASURING_LOCK, WRITING_LOCK = "signals-measuring.lock", "signals-writing.lock"


def write(run_dir: Path, readings: Readings) -> None:
    """Raises `OSError`."""
    values = [
        (each.signal.name, each.value, dict(each.labels), each.reason, each.deliberate, each.subject)
        for each in readings.values
    ]
    content = {"at": readings.at, "values": values, "unmeasured": dict(readings.unmeasured)}
    disk.replace(run_dir / CACHE_FILE, json.dumps(content).encode())


def read(run_dir: Path) -> Readings | None:
    """The last measurement; None if there is none that can be read."""
    try:
        found = json.loads((run_dir / CACHE_FILE).read_text())
        values = [
            Reading(BY_NAME[name], float(value), dict(labels), str(reason), bool(deliberate), str(subject))
            for name, value, labels, reason, deliberate, subject in found["values"]
            if name in BY_NAME  # another release measures others
        ]
        return Readings(values, dict(found["unmeasured"]), float(found["at"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep(run_dir: Path, readings: Readings, past: Mapping[str, Sequence[Sample]]) -> None:
    """Writes a measurement and the history with it, unless another program is writing its own. Raises `OSError`."""
    with file_lock.attempt(run_dir / WRITING_LOCK) as alone:
        if alone:
            history.write(run_dir, past)
            write(run_dir, readings)


def measuring(run_dir: Path) -> contextlib.AbstractContextManager[bool]:
    """Excludes others that measure for the cache; yields False if somebody does already. Raises `OSError`."""
    return file_lock.attempt(run_dir / MEASURING_LOCK)
