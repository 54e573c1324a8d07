"""Webhooks that were stored as they came: parsed and applied afterwards, each batch in one transaction."""

from collections.abc import Callable

import structlog

from services import store
from services.message import StatusUpdate
from services.store import Connection, DatabaseError

#: Webhooks applied in one transaction, at most.
BATCH = 100

_TAKE = """
SELECT id, body FROM webhook_inbox WHERE process_name = %s AND processed_at IS NULL
ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"""
_FINISH = "UPDATE webhook_inbox SET processed_at = now(), error = %s WHERE id = ANY(%s)"

log = structlog.get_logger()


class Inbox:
    """The stored webhooks of one channel."""

    def __init__(self, process: str, parse: Callable[[bytes], list[StatusUpdate]]) -> None:
        """`parse` is the connector's; its ValueError sets a webhook aside, with the reason, for an operator to see."""
        self._process, self._parse = process, parse

    def work_off(self, connection: Connection) -> int:
        """Apply all stored webhooks; returns how many there were."""
        total = 0
        while taken := self._apply_batch(connection, BATCH):
            total += taken
        return total

    def _apply_batch(self, connection: Connection, limit: int) -> int:
        try:
            return self._apply(connection, limit)
        except DatabaseError as error:
            _execute(connection, "ROLLBACK")
            if limit == 1:
                return self._set_aside(connection, str(error).strip())
            log.warning("a batch of webhooks could not be applied, trying them one by one", reason=str(error).strip())
            return self._apply_batch(connection, 1)

    def _apply(self, connection: Connection, limit: int) -> int:
        _execute(connection, "BEGIN")
        taken = self._take(connection, limit)
        updates: list[StatusUpdate] = []
        good = []
        for number, body in taken:
            try:
                updates += self._parse(body)
                good.append(number)
            except ValueError as error:
                _execute(connection, _FINISH, (str(error), [number]))
                log.warning("a webhook was set aside", webhook=number, reason=str(error))
        if updates:
            store.apply_statuses(connection, self._process, updates)
        _execute(connection, _FINISH, (None, good))
        _execute(connection, "COMMIT")
        return len(taken)

    def _take(self, connection: Connection, limit: int) -> list[tuple[int, bytes]]:
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, (self._process, limit))
            return [(number, bytes(body)) for number, body in cursor.fetchall()]

    def _set_aside(self, connection: Connection, reason: str) -> int:
        _execute(connection, "BEGIN")
        taken = self._take(connection, 1)
        _execute(connection, _FINISH, (reason, [number for number, _ in taken]))
        _execute(connection, "COMMIT")
        log.warning("a webhook was set aside", webhooks=[number for number, _ in taken], reason=reason)
        return len(taken)


def _execute(connection: Connection, statement: str, values: tuple[object, ...] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
