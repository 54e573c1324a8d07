"""One run of the retention: each rule in turn, in small batches with pauses, by one process at a time.

A run that is killed has committed its batches, and the next one continues. A rule that fails does not stop the others.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg2

from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import BisnesError, ConfigError
from bisnesctl.retention import records
from bisnesctl.retention.removal import Values
from bisnesctl.retention.rules import FILES, RULES, Rule
from bisnesctl.settings import Settings

#: One process deletes at a time: "keep" as a number. Earlier versions take the same lock.
LOCK_ID = 0x6B656570
#: Seconds after which a rule leaves the rest to the next run, so that the others have their turn.
RULE_SECONDS = 300.0
#: Milliseconds for a statement, which may read a whole table, and for a lock.
STATEMENT_TIMEOUT_MS, LOCK_TIMEOUT_MS = 120_000, 1000
#: Seconds for the answer to a statement: longer than the server's own limit.
ANSWER_SECONDS = STATEMENT_TIMEOUT_MS / 1000 + 10
#: Seconds between two batches: as many as the batch took, and at most this.
LONGEST_PAUSE_SECONDS = 1.0

#: Whether there may be files that no message has.
_FILES_WAIT = "SELECT EXISTS (SELECT FROM media_upload WHERE since < now() - interval '1 day')"

#: Pauses between batches for some seconds; returns whether the run is to end.
Pause = Callable[[float], bool]
#: Removes the files that no message has, in batches; yields their numbers.
RemoveFiles = Callable[[], Iterator[int]]


@dataclass
class Outcome:
    """The work of a run."""

    #: Rows, and files, by kind; none that is 0.
    deleted: dict[str, int] = field(default_factory=dict)
    #: Why rules failed, by kind.
    failed: dict[str, str] = field(default_factory=dict)
    #: The kinds of which there was more to delete.
    left: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def unfinished(self) -> bool:
        """Whether there was more to delete."""
        return bool(self.left)


def sleep(seconds: float) -> bool:
    """A `Pause` of a run that only ends by itself."""
    time.sleep(seconds)
    return False


def run(
    connection: Connection, settings: Settings, remove_files: RemoveFiles | None = None, pause: Pause = sleep
) -> Outcome | None:
    """Deletes what is old; None if another process is doing so.

    The connection is the caller's own, in autocommit. `remove_files`: None if this process has no store of media.
    Raises psycopg2.Error if the connection breaks.
    """
    with _alone(connection) as alone:
        if not alone:
            return None
        began, outcome = time.monotonic(), Outcome()
        now = query(connection, "SELECT now()::text")[0][0]
        for rule in RULES:
            if rule.after in outcome.failed:
                outcome.failed[rule.name] = f"{rule.after} must be deleted first"
                continue
            if rule.after in outcome.left:
                outcome.left.add(rule.name)
                continue
            try:
                values = {"now": now, "days": rule.days(settings)}
            except ConfigError as error:
                outcome.failed[rule.name] = _reason(error)
                continue
            if _apply(connection, rule.name, rule.removal.batches(connection, values), outcome, pause):
                break
        else:
            if remove_files is not None:
                _apply(connection, FILES, remove_files(), outcome, pause)
            elif query(connection, _FILES_WAIT) == [(True,)]:
                outcome.left.add(FILES)
        outcome.seconds = time.monotonic() - began
        records.record(connection, outcome.deleted, outcome.failed, outcome.unfinished, outcome.seconds)
        return outcome


def count(connection: Connection, settings: Settings) -> Iterator[tuple[Rule, int | str]]:
    """Each rule with the number of rows that a run would delete now, or why they cannot be counted."""
    now = query(connection, "SELECT now()::text")[0][0]
    with _limits(connection):
        for rule in RULES:
            values: Values = {"now": now, "days": rule.days(settings)}
            try:
                yield rule, rule.removal.count(connection, values)
            except psycopg2.Error as error:
                _check_alive(connection, error)
                yield rule, _reason(error)


def _apply(connection: Connection, name: str, batches: Iterator[int], outcome: Outcome, pause: Pause) -> bool:
    """Applies a rule until nothing is left or its time is over; returns whether the run is to end."""
    began = batch_began = time.monotonic()
    try:
        for rows in batches:
            if rows:
                outcome.deleted[name] = outcome.deleted.get(name, 0) + rows
            now = time.monotonic()
            stops = pause(min(now - batch_began, LONGEST_PAUSE_SECONDS))
            if stops or now - began > RULE_SECONDS:
                outcome.left.add(name)
                return stops
            batch_began = time.monotonic()
    except (psycopg2.Error, BisnesError) as error:
        _check_alive(connection, error)
        outcome.failed[name] = _reason(error)
    return False


@contextlib.contextmanager
def _alone(connection: Connection) -> Iterator[bool]:
    """Whether no other process deletes. Within it, none begins."""
    if query(connection, "SELECT pg_try_advisory_lock(%s)", (LOCK_ID,)) != [(True,)]:
        yield False
        return
    try:
        with _limits(connection):
            yield True
    finally:
        with contextlib.suppress(psycopg2.Error):  # a broken connection has released it
            query(connection, "SELECT pg_advisory_unlock(%s)", (LOCK_ID,))


@contextlib.contextmanager
def _limits(connection: Connection) -> Iterator[None]:
    """The time limits of statements and locks."""
    query(connection, f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}; SET lock_timeout = {LOCK_TIMEOUT_MS}")
    try:
        with connection.limited(ANSWER_SECONDS):
            yield
    finally:
        with contextlib.suppress(psycopg2.Error):
            query(connection, "RESET statement_timeout; RESET lock_timeout")


def _check_alive(connection: Connection, error: Exception) -> None:
    if connection.closed:
        raise error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
