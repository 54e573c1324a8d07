"""Findings that the pages show, collected once for all who look at the same time.

Nothing here fails because something is down: what cannot be seen is an error that the page shows in its place.
"""

import math
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from bisnesctl.people.store import PeopleStore
from bisnesctl.processes.deployment import Deployment, as_started, open_deployment
from bisnesctl.settings import load_partly
from services.database.connection import Connection, Database

#: Seconds for which a finding is shared.
SHARED_SECONDS = 1.0
#: Seconds for which an older finding is shown while another thread looks again.
STALE_SECONDS = 5.0
#: Findings that are kept, at most.
MAX_FINDINGS = 200

T = TypeVar("T")


@dataclass
class _Finding:
    lock: threading.Lock
    at: float = -math.inf  # on the monotonic clock
    value: Any = None


class Sources:
    """The sources of one dashboard."""

    def __init__(self, database: Database, people: PeopleStore) -> None:
        self.people = people
        self._database = database
        self._findings: dict[Hashable, _Finding] = {}
        self._lock = threading.Lock()

    def connection(self) -> AbstractContextManager[Connection]:
        """A connection in autocommit. Raises `DatabaseUnavailable`."""
        return self._database.connection()

    def deployment(self) -> Deployment:
        """The deployment with the settings of this moment."""
        return self.shared("deployment", lambda: open_deployment(as_started(load_partly().with_defaults())))

    def shared(self, key: Hashable, find: Callable[[], T], seconds: float = SHARED_SECONDS) -> T:
        """The result of `find`, or the one that it returned for this key a moment ago.

        Only one thread looks at a time. Meanwhile the others get what was found before, unless that is too old.
        """
        with self._lock:
            if len(self._findings) >= MAX_FINDINGS:
                self._findings.clear()
            finding = self._findings.setdefault(key, _Finding(threading.Lock()))
        is_usable = time.monotonic() - finding.at < seconds + STALE_SECONDS
        if not finding.lock.acquire(blocking=not is_usable):
            stale: T = finding.value
            return stale
        try:
            if time.monotonic() - finding.at > seconds:
                finding.value = find()
                finding.at = time.monotonic()
            value: T = finding.value
            return value
        finally:
            finding.lock.release()
