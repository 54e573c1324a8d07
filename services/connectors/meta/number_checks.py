"""The checks of the numbers with their providers, every few minutes, by whichever process comes first."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from bisnesctl.bots import check_records, identity
from bisnesctl.bots.checks import undecryptable
from bisnesctl.bots.provider_queries import ProviderBot, query_provider
from bisnesctl.bots.provider_report import Failure, Problem, ProviderReport, problems
from bisnesctl.encryption import EncryptionError, decrypt
from bisnesctl.settings import Settings
from services.database.connection import Connection
from services.message import Bot, Scope
from services.outbox import store
from services.outbox.store import Hold

#: How far checks are spread, as a share of the minutes between them, so that they do not come all at once.
JITTER = 0.3
#: The share of those minutes after which a provider that did not answer is asked again.
SOON = 0.2

_BEGIN = """
INSERT INTO bot_check (bot_id) SELECT id FROM phone_configs c
WHERE process_name = 'meta' AND NOT EXISTS (SELECT FROM bot_check WHERE bot_id = c.id)
ON CONFLICT DO NOTHING"""

# The next check is due later already while this one is made, so a process that dies with it takes none with it.
_CLAIM = """
UPDATE bot_check k SET due = now() + %(minutes)s * interval '1 minute' * (1 + %(jitter)s * (random() - 0.5))
FROM phone_configs c WHERE c.id = k.bot_id AND k.bot_id = (
    SELECT d.bot_id FROM bot_check d JOIN phone_configs e ON e.id = d.bot_id
    WHERE d.due <= now() AND e.process_name = 'meta' ORDER BY d.due LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
RETURNING k.bot_id, c.meta_waba_id, c.status IS DISTINCT FROM 'pending'"""

_AGAIN = "UPDATE bot_check SET due = LEAST(due, now() + %s * interval '1 minute') WHERE bot_id = %s"

# Whoever replaces the credential meanwhile waits for this row, and then ends the hold.
_CREDENTIAL = """
SELECT CASE connection_type WHEN '360dialog' THEN api_key_encrypted ELSE meta_access_token_encrypted END
FROM phone_configs WHERE id = %s FOR SHARE"""

log = structlog.get_logger()


class _Claimed(NamedTuple):
    bot_id: int
    waba_id: str | None
    ready: bool  # False: its linking was not finished


@dataclass(frozen=True, slots=True)
class Checks:
    """Asks about one number after the other; several processes may do so at once."""

    settings: Settings
    bot_of: Callable[[int], Bot | None]  # a bot with its token decrypted; raises `EncryptionError`

    def work(self, connection: Connection) -> bool:
        """Check the number that is due longest; returns whether there was one.

        Nothing is locked while its provider is asked.
        """
        claimed = self._claim(connection)
        if claimed is None:
            return False
        try:
            bot = self.bot_of(claimed.bot_id)
        except EncryptionError as error:
            self._record(connection, claimed.bot_id, undecryptable(error))
            return True
        if bot is not None:
            self._check(connection, bot, _subject(bot, claimed))
        return True

    @property
    def _key(self) -> str:
        return self.settings.encryption_key.get_secret_value()

    def _claim(self, connection: Connection) -> _Claimed | None:
        with connection.cursor() as cursor:
            cursor.execute(_BEGIN)
            cursor.execute(_CLAIM, {"minutes": self.settings.bot_check_minutes, "jitter": JITTER})
            row = cursor.fetchone()
        return _Claimed(*row) if row else None

    def _check(self, connection: Connection, bot: Bot, subject: ProviderBot) -> None:
        report = query_provider(self.settings, subject)
        if not report.answered:
            self._ask_again(connection, bot, report.failure)
            return
        if report.credential_refused:
            self._hold(connection, bot, str(problems(report, time.time())[0]))
        if identity.correct(connection, self._key, bot.id, subject, report):
            log.warning("a number's provider disproved its ids, they were corrected", bot=_name(bot))
        self._record(connection, bot.id, report)

    def _ask_again(self, connection: Connection, bot: Bot, failure: Failure | None) -> None:
        """Silence says nothing about the number: what is known of it stays."""
        reason = failure.reason if failure else ""
        log.warning("a number could not be checked, asking again soon", bot=_name(bot), reason=reason)
        with connection.cursor() as cursor:
            cursor.execute(_AGAIN, (self.settings.bot_check_minutes * SOON, bot.id))

    def _hold(self, connection: Connection, bot: Bot, reason: str) -> None:
        """Keep the queue of a number whose credential is refused, unless it was replaced meanwhile."""
        with connection, connection.cursor() as cursor:
            cursor.execute(_CREDENTIAL, (bot.id,))
            row = cursor.fetchone()
            if row is not None and row[0] and decrypt(self._key, row[0]) == bot.access_token.value:
                store.hold(connection, [Hold(bot.id, Scope.BOT, None, reason)])

    def _record(self, connection: Connection, bot_id: int, report: ProviderReport) -> None:
        found = problems(report, time.time())
        if check_records.record(connection, bot_id, report, found):
            _tell(bot_id, found)


def _subject(bot: Bot, claimed: _Claimed) -> ProviderBot:
    return ProviderBot(
        bot.company_id, bot.phone_index, bot.connection_type, bot.access_token.value, bot.phone_number_id,
        claimed.waba_id, claimed.ready,
    )  # fmt: skip


def _tell(bot_id: int, found: list[Problem]) -> None:
    if found:
        log.warning("a check found something wrong with a number", bot=bot_id, reason="; ".join(map(str, found)))
    else:
        log.info("a number is well", bot=bot_id)


def _name(bot: Bot) -> str:
    return f"{bot.company_id}-{bot.phone_index}"
