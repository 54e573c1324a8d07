"""A few values of the last days, in a file of the deployment: for forecasts and growth."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bisnesctl.host import disk

#: The file, below `run_dir`.
HISTORY_FILE = "signals-history.json"
#: The signal of a disk's free space.
FREE_SPACE = "disk_free"
#: Seconds between two samples within the last hour, and before.
SAMPLE_SECONDS, OLD_SAMPLE_SECONDS = 60.0, 600.0
#: Seconds of the first.
FINE_SECONDS = 3600.0
#: Seconds for which samples are kept.
KEPT_SECONDS = 3 * 86400.0
#: Seconds and samples that a slope needs at least.
MIN_SPAN_SECONDS, MIN_SAMPLES = 900.0, 5
#: Seconds that a forecast needs at least: a burst of a quarter of an hour is no trend.
MIN_FORECAST_SPAN_SECONDS = 3600.0
#: Seconds beyond which a forecast says nothing.
FORESEEN_SECONDS = 365 * 86400.0

#: Seconds since the epoch, and the value then.
Sample = tuple[float, float]


def free_space_name(mount: str) -> str:
    """The name of a disk's free space."""
    return f"{FREE_SPACE}[{mount}]"


def read(run_dir: Path) -> dict[str, list[Sample]]:
    """All samples by their name, oldest first; empty if there is no file, or it is damaged."""
    try:
        found = json.loads((run_dir / HISTORY_FILE).read_text())
        now = time.time()
        return {
            str(name): [(float(at), float(value)) for at, value in samples if now - KEPT_SECONDS < at <= now]
            for name, samples in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def add(history: Mapping[str, Sequence[Sample]], values: Mapping[str, float], now: float) -> dict[str, list[Sample]]:
    """The history with these values of now. Values of the last minute are not repeated; old ones become sparse."""
    found = {name: list(samples) for name, samples in history.items()}
    for name, value in values.items():
        samples = found.setdefault(name, [])
        if not samples or now - samples[-1][0] >= SAMPLE_SECONDS:
            samples.append((now, value))
    return {name: thinned for name, samples in found.items() if (thinned := _thin(samples, now))}


def write(run_dir: Path, history: Mapping[str, Sequence[Sample]]) -> None:
    """Raises `OSError`."""
    disk.replace(run_dir / HISTORY_FILE, json.dumps(history).encode())


def _thin(samples: Sequence[Sample], now: float) -> list[Sample]:
    kept: list[Sample] = []
    for at, value in samples:
        if now - at >= KEPT_SECONDS:
            continue
        if not kept or now - at < FINE_SECONDS or at - kept[-1][0] >= OLD_SAMPLE_SECONDS:
            kept.append((at, value))
    return kept


def slope(samples: Sequence[Sample], since: float = 0.0) -> float | None:
    """The change of a value in one second, by least squares; None if there are too few samples.

    `since`: seconds since the epoch of the first sample that counts.
    """
    counted = [each for each in samples if each[0] >= since]
    if len(counted) < MIN_SAMPLES or counted[-1][0] - counted[0][0] < MIN_SPAN_SECONDS:
        return None
    middle = sum(at for at, _ in counted) / len(counted)
    average = sum(value for _, value in counted) / len(counted)
    spread = sum((at - middle) ** 2 for at, _ in counted)
    return sum((at - middle) * (value - average) for at, value in counted) / spread


def empty_in(samples: Sequence[Sample]) -> float | None:
    """Seconds until a value that falls is 0; None if it does not fall, or not within a year, or too little is known."""
    fall = slope(samples)
    if fall is None or fall >= 0 or samples[-1][0] - samples[0][0] < MIN_FORECAST_SPAN_SECONDS:
        return None
    left = samples[-1][1] / -fall
    return left if left < FORESEEN_SECONDS else None
