"""Holds because of a credential end by themselves once it can be decrypted: the right ENCRYPTION_KEY was restored."""

import time
from typing import ClassVar

import structlog

from bisnesctl import encryption
from bisnesctl.encryption import OTHER_KEY
from services.database.connection import Connection, query

#: Seconds between two looks.
INTERVAL_SECONDS = 15.0

_HELD = """
SELECT p.bot_id, CASE connection_type WHEN '360dialog' THEN api_key_encrypted ELSE meta_access_token_encrypted END
FROM bot_pace p JOIN phone_configs c ON c.id = p.bot_id
WHERE p.held_until = 'infinity' AND left(p.held_reason, length(%(reason)s)) = %(reason)s"""
_RELEASE = "SELECT release_bot(%s)"
_CHECK = "UPDATE bot_check SET due = now() WHERE bot_id = %s"

log = structlog.get_logger()


class CredentialHolds:
    """A background job. Several processes may do it at the same time."""

    idle_seconds: ClassVar[float] = INTERVAL_SECONDS

    def __init__(self, keys: encryption.Keys) -> None:
        self._keys = keys
        self._next = 0.0

    def work(self, connection: Connection) -> bool:
        """End the holds whose cause is gone; False: there is nothing more at once."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + INTERVAL_SECONDS
        for bot_id, sealed in query(connection, _HELD, {"reason": OTHER_KEY}):
            if encryption.decrypts(self._keys, sealed):
                query(connection, _RELEASE, (bot_id,))
                query(connection, _CHECK, (bot_id,))
                log.info("bot.credential_readable", bot=bot_id)
        return False
