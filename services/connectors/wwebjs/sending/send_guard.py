"""What a session writes down about messages before they leave, in the database."""

from services.connectors.base import Refusal
from services.connectors.wwebjs.browser.page import Page
from services.connectors.wwebjs.sending.number_lookup import NumberLookup
from services.connectors.wwebjs.sending.warmup import WarmupPace
from services.connectors.wwebjs.translation.outgoing import KEYED
from services.database.connection import Database
from services.message import Outgoing
from services.outbox import recovery


class DatabaseSendGuard:
    """See `services.connectors.wwebjs.sending.page_send.SendGuard`."""

    def __init__(self, database: Database, numbers: NumberLookup | None = None) -> None:
        self._database = database
        self._numbers, self._pace = numbers or NumberLookup(database), WarmupPace(database)

    def refusal(self, page: Page, message: Outgoing) -> Refusal | None:
        """The number must be on WhatsApp, and the bot within its limits."""
        if message.kind not in KEYED:
            return None
        return self._numbers.refusal(page, message) or self._pace.refusal(message)

    def reserve(self, message: Outgoing, key: str | None) -> None:
        """In the outbox, where whoever claims the message next finds it."""
        with self._database.connection() as connection:
            recovery.reserve(connection, message, key)
