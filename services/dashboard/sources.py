"""Findings that the pages show, collected once for all who look at the same time.

Nothing here fails because something is down: what cannot be seen is an error that the page shows in its place.
"""

import math
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

from bisnesctl.health.resource_usage import Meter
from bisnesctl.people.store import PeopleStore
from bisnesctl.processes.deployment import Deployment, as_started, open_deployment
from bisnesctl.settings import load_partly
from services.database.connection import Connection, Database

#: Seconds for which a finding is shared.
SHARED_SECONDS = 2.0
#: A finding is shared for this multiple of the time that it took, so that looking takes a fifth of a processor at most,
#: with hundreds of processes too.
SHARED_FACTOR = 4.0
#: Seconds for which it is shared therefore, at most.
MAX_REST_SECONDS = 5.0
#: Seconds for which an older finding is shown while a thread looks again; those shared for longer, as long again.
STALE_SECONDS = 5.0
#: Findings that are kept, at most.
MAX_FINDINGS = 200

T = TypeVar("T")


class _Finding:
    """The finding for a key, or the error that was raised instead."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held by the thread that looks
        self.value: Any = None
        self._error: Exception | None = None
        self._fresh_until = self._usable_until = -math.inf  # on the monotonic clock

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self._fresh_until

    @property
    def is_usable(self) -> bool:
        """Whether it may be shown while a thread looks again."""
        return self._error is None and time.monotonic() < self._usable_until

    def renew(self, find: Callable[[], Any], seconds: float) -> None:
        """Looks again. The caller holds the lock."""
        begun = time.monotonic()
        try:
            self.value, self._error = find(), None
        except Exception as error:
            self._error, seconds = error.with_traceback(None), SHARED_SECONDS
        now = time.monotonic()
        self._fresh_until = now + max(seconds, min(SHARED_FACTOR * (now - begun), MAX_REST_SECONDS))
        self._usable_until = self._fresh_until + max(seconds, STALE_SECONDS)

    def outcome(self) -> Any:
        """The finding. Raises the error that was raised instead."""
        if self._error is not None:
            raise self._error
        return self.value


class Sources:
    """The sources of one dashboard."""

    def __init__(self, database: Database, people: PeopleStore) -> None:
        self.people = people
        self._database = database
        self.meter = Meter()  # of the one thread that looks at the processes
        self._findings: dict[Hashable, _Finding] = {}
        self._lock = threading.Lock()

    def connection(self) -> AbstractContextManager[Connection]:
        """A connection in autocommit. Raises `DatabaseUnavailable`."""
        return self._database.connection()

    def deployment(self) -> Deployment:
        """The deployment with the settings of this moment."""
        return self.shared("deployment", lambda: open_deployment(as_started(load_partly().with_defaults())))

    def shared(self, key: Hashable, find: Callable[[], T], seconds: float = SHARED_SECONDS) -> T:
        """The result of `find`, or the one that it returned or raised for this key a moment ago.

        One thread at a time looks. An older finding is shown meanwhile, unless it is too old.
        """
        with self._lock:
            if len(self._findings) >= MAX_FINDINGS:
                self._findings.clear()
            finding = self._findings.setdefault(key, _Finding())
        is_usable, stale = finding.is_usable, finding.value
        if not is_usable:
            with finding.lock:
                if not finding.is_fresh:  # else another thread looked meanwhile
                    finding.renew(find, seconds)
            return cast(T, finding.outcome())
        if not finding.is_fresh and finding.lock.acquire(blocking=False):
            threading.Thread(target=_renew, args=(finding, find, seconds), name="dashboard-look", daemon=True).start()
        return cast(T, stale)


def _renew(finding: _Finding, find: Callable[[], Any], seconds: float) -> None:
    try:
        finding.renew(find, seconds)
    finally:
        finding.lock.release()
