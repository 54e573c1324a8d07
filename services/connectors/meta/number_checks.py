"""Regular checks of the bots' phone numbers at their providers. Whichever process comes first makes a due check."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import structlog

from bisnesctl.bots import check_records, identity
from bisnesctl.bots.checks import unusable
from bisnesctl.bots.provider_queries import ProviderBot, query_provider
from bisnesctl.bots.provider_report import Failure, Problem, ProviderReport, can_send, problems
from bisnesctl.encryption import EncryptionError, Keys, decrypt
from bisnesctl.settings import Settings
from services.database.connection import Connection, transaction
from services.message import Bot, Scope
from services.outbox import holds
from services.outbox.outcome_policy import Hold

#: The spread of the time between two checks of a bot, as a fraction of it, so that checks do not coincide.
INTERVAL_JITTER = 0.3
#: The pause before another check if the provider did not answer, as a fraction of the time between two checks.
RETRY_FRACTION = 0.2

_BEGIN = """
INSERT INTO bot_check (bot_id) SELECT id FROM phone_configs c
WHERE process_name = 'meta' AND NOT EXISTS (SELECT FROM bot_check WHERE bot_id = c.id)
ON CONFLICT DO NOTHING"""

# Claiming a check schedules the next one, so a crash during a check does not drop the bot from the schedule.
_CLAIM = """
UPDATE bot_check k SET due = now() + %(minutes)s * interval '1 minute' * (1 + %(jitter)s * (random() - 0.5))
FROM phone_configs c WHERE c.id = k.bot_id AND k.bot_id = (
    SELECT d.bot_id FROM bot_check d JOIN phone_configs e ON e.id = d.bot_id
    WHERE d.due <= now() AND e.process_name = 'meta' ORDER BY d.due LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
RETURNING k.bot_id, c.meta_waba_id, c.status IS DISTINCT FROM 'pending'"""

_AGAIN = "UPDATE bot_check SET due = LEAST(due, now() + %s * interval '1 minute') WHERE bot_id = %s"

# FOR SHARE: a program that replaces the credential meanwhile waits for this row, and then ends the hold.
_CREDENTIAL = """
SELECT CASE connection_type WHEN '360dialog' THEN api_key_encrypted ELSE meta_access_token_encrypted END
FROM phone_configs WHERE id = %s FOR SHARE"""

log = structlog.get_logger()


class _Claimed(NamedTuple):
    bot_id: int
    waba_id: str | None
    ready: bool  # False: its linking was not finished


@dataclass(frozen=True, slots=True)
class NumberChecks:
    """Checks one bot after the other. Several processes may do so at the same time."""

    idle_seconds: ClassVar[float] = 5.0
    settings: Settings
    bot_of: Callable[[int], Bot | None]  # a bot with its token decrypted; raises `EncryptionError`

    def work(self, connection: Connection) -> bool:
        """Check the bot that is due longest; returns whether there was one.

        No row is locked while the provider is asked.
        """
        claimed = self._claim(connection)
        if claimed is None:
            return False
        try:
            bot = self.bot_of(claimed.bot_id)
        except EncryptionError as error:
            self._record(connection, claimed.bot_id, unusable(error))
            return True
        if bot is not None:
            self._check(connection, bot, _subject(bot, claimed))
        return True

    @property
    def _keys(self) -> Keys:
        return self.settings.decryption_keys

    def _claim(self, connection: Connection) -> _Claimed | None:
        with connection.cursor() as cursor:
            cursor.execute(_BEGIN)
            cursor.execute(_CLAIM, {"minutes": self.settings.bot_check_minutes, "jitter": INTERVAL_JITTER})
            row = cursor.fetchone()
        return _Claimed(*row) if row else None

    def _check(self, connection: Connection, bot: Bot, subject: ProviderBot) -> None:
        report = query_provider(self.settings, subject)
        if not report.answered:
            self._ask_again(connection, bot, report.failure)
            return
        if report.credential_refused:
            self._hold(connection, bot, problems(report, time.time())[0])
        if identity.correct(connection, self._keys, bot.id, subject, report):
            log.warning("bot.ids_corrected", bot=_name(bot))
        self._record(connection, bot.id, report)

    def _ask_again(self, connection: Connection, bot: Bot, failure: Failure | None) -> None:
        """No answer says nothing about the bot, so its last result stays."""
        reason = failure.reason if failure else ""
        log.warning("bot.check_failed", bot=_name(bot), reason=reason)
        with connection.cursor() as cursor:
            cursor.execute(_AGAIN, (self.settings.bot_check_minutes * RETRY_FRACTION, bot.id))

    def _hold(self, connection: Connection, bot: Bot, problem: Problem) -> None:
        """Hold the bot's queue because its credential is refused, unless the credential was replaced meanwhile."""
        with transaction(connection) as cursor:
            cursor.execute(_CREDENTIAL, (bot.id,))
            row = cursor.fetchone()
            if row is not None and row[0] and decrypt(self._keys, row[0]) == bot.access_token.value:
                holds.hold(connection, [Hold(bot.id, Scope.BOT, None, str(problem), code=problem.code)])

    def _record(self, connection: Connection, bot_id: int, report: ProviderReport) -> None:
        found = problems(report, time.time())
        if check_records.record(connection, bot_id, report, found):
            _log(bot_id, found)
        if can_send(report, found) and check_records.lift_hold(connection, bot_id, at_once=False):
            log.info("bot.hold_lifted", bot=bot_id)


def _subject(bot: Bot, claimed: _Claimed) -> ProviderBot:
    return ProviderBot(
        bot.company_id, bot.phone_index, bot.connection_type, bot.access_token.value, bot.phone_number_id,
        claimed.waba_id, claimed.ready,
    )  # fmt: skip


def _log(bot_id: int, found: list[Problem]) -> None:
    if found:
        log.warning("bot.check_found_problems", bot=bot_id, reason="; ".join(map(str, found)))
    else:
        log.info("bot.check_passed", bot=bot_id)


def _name(bot: Bot) -> str:
    return f"{bot.company_id}-{bot.phone_index}"
