"""Removes files that nobody needs any more: logs and records of instances that are gone, and remains of crashes.

Old rows of the database are a matter of `bisnesctl.retention`.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.started_settings import FOLDER as SETTINGS_FOLDER

#: Days for which the logs of an instance that is gone are kept.
LOG_DAYS = 30
#: Days for which other files are kept.
RECORD_DAYS = 7
#: Logs of no instance.
_OWN_LOGS = ("supervisord", "cron", "release")
_DAY_SECONDS = 86400.0


def clean_up(deployment: Deployment) -> list[Path]:
    """Removes them; returns their paths."""
    return [path for path in _candidates(deployment) if _remove(path)]


def _candidates(deployment: Deployment) -> Iterator[Path]:
    settings = deployment.settings
    known = {each.name for each in deployment.known(deployment.processes())}
    for path in settings.log_dir.glob("*.log*"):
        if path.name.partition(".")[0] not in {*known, *_OWN_LOGS} and _is_older(path, LOG_DAYS):
            yield path
    for folder in (settings.heartbeat_dir, settings.run_dir / SETTINGS_FOLDER):
        yield from (path for path in folder.glob("*.json") if path.stem not in known and _is_older(path, RECORD_DAYS))
    for folder in (settings.run_dir, settings.home):
        yield from (path for path in folder.glob(".*.new") if _is_older(path, RECORD_DAYS))
        yield from (path for path in folder.glob(".write-test.*") if _is_older(path, RECORD_DAYS))
    yield from (path for path in (settings.run_dir / "alerts").glob("*.json") if _is_older(path, RECORD_DAYS))


def _is_older(path: Path, days: int) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and time.time() - path.stat().st_mtime > days * _DAY_SECONDS
    except OSError:
        return False


def _remove(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.unlink()
        return True
    return False
