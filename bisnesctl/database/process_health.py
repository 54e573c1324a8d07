"""The table `process_health`, which monitoring reads: rows of programs that do not run any more."""

import contextlib
from collections.abc import Collection

from bisnesctl.database import postgres
from bisnesctl.errors import BisnesError
from bisnesctl.settings import Settings

#: Rows that the former system made. They always exist.
FORMER_PROCESSES = frozenset({"api", "wwebjs", "meta"})
#: Seconds to connect, and for the statement.
TIMEOUT_SECONDS = 5

_FORGET = """
DELETE FROM process_health WHERE process_name = ANY(%s)
    AND (status = 'stopped' OR last_heartbeat < now() - interval '60 seconds' OR last_heartbeat IS NULL)"""


def forget(settings: Settings, processes: Collection[str]) -> None:
    """Deletes the rows of processes that belong to a mode that was left; otherwise monitoring would see them as down.

    Nothing happens if the database is unavailable, or if such a process runs, such as on another machine.
    """
    gone = sorted(set(processes) - FORMER_PROCESSES)
    with (
        contextlib.suppress(BisnesError),
        postgres.connected(settings.database_dsn, timeout=TIMEOUT_SECONDS) as connection,
    ):
        postgres.query(connection, _FORGET, (gone,))
