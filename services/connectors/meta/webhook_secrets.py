"""The secrets of 360dialog's webhooks as the receiver knows them: those that are stored, all together, for a moment.

So a stranger with wrong secrets costs a query now and then, however many webhooks come.
"""

import threading
import time
from collections.abc import Mapping

from bisnesctl.bots import webhook_secrets
from bisnesctl.bots.provider_queries import derived_dialog360_secrets
from bisnesctl.settings import Settings
from services.database.connection import Database
from services.inbox.webhook_inbox import BotName

#: Seconds for which the stored secrets are remembered.
VALID_SECONDS = 5.0
#: The same for a secret that is not among them: it may be a new one.
RECHECK_SECONDS = 0.5


class WebhookSecrets:
    """The accepted secrets of each number. Safe for threads."""

    def __init__(self, settings: Settings, database: Database) -> None:
        """The first question connects."""
        self._settings, self._database = settings, database
        self._stored: Mapping[tuple[str, int], list[str]] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def of(self, bot: BotName, again: bool = False) -> list[str]:
        """The accepted secrets of a number. `again`: what is known did not match. Raises `DatabaseUnavailable`."""
        self._refresh(RECHECK_SECONDS if again else VALID_SECONDS)
        try:
            derived = derived_dialog360_secrets(self._settings, bot.company_id, bot.phone_index)
        except ValueError:  # no company can have this name
            return []
        return self._stored.get((bot.company_id, bot.phone_index)) or derived

    def _refresh(self, seconds: float) -> None:
        with self._lock:
            if time.monotonic() < self._read_at + seconds:
                return
            with self._database.connection() as connection:
                self._stored = webhook_secrets.stored(connection, self._settings)
            self._read_at = time.monotonic()
