"""Checks bots with their providers, and records the results. `bots verify` and the workers run these checks."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from bisnesctl import encryption
from bisnesctl.bots import check_records, identity, store
from bisnesctl.bots.linking import Connect
from bisnesctl.bots.provider_queries import ProviderBot, query_provider
from bisnesctl.bots.provider_report import (
    NEW_CREDENTIAL_COMMAND,
    Cause,
    Failure,
    Level,
    Problem,
    ProviderReport,
    problems,
    worst_level,
)
from bisnesctl.bots.store import StoredBot
from bisnesctl.encryption import EncryptionError, NoCredential
from bisnesctl.errors import UsageError
from bisnesctl.settings import Settings


@dataclass(frozen=True, slots=True)
class CheckedBot:
    """The result of a check: the provider's report and its problems."""

    company: str
    phone: int
    type: str
    phone_number_id: str | None
    report: ProviderReport
    problems: list[Problem]

    @property
    def name(self) -> str:
        """The bot's name: <companyId>-<phoneIndex>."""
        return f"{self.company}-{self.phone}"

    @property
    def level(self) -> Level:
        """The worst level of its problems."""
        return worst_level(self.problems)

    def plain(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {**asdict(self), "status": self.level.value}


def check(
    connect: Connect, settings: Settings, company: str | None = None, phone: int | None = None
) -> list[CheckedBot]:
    """Checks all Meta and 360dialog bots, those of a company, or one, and records the results.

    No database connection is held meanwhile. Raises `UsageError` for a named bot that cannot be checked.
    """
    with connect() as connection:
        found = store.known(connection, company, phone)
    bots = [each for each in found if each.type != "wwebjs"]
    if not bots and phone is not None:
        kind = "is a WhatsApp Web bot, which has no provider to ask" if found else "does not exist"
        raise UsageError(f"bot {phone}{f' of company {company}' if company else ''} {kind}: see `bisnesctl bots list`")
    return [_check(connect, settings, each) for each in bots]


def unusable(error: EncryptionError) -> ProviderReport:
    """The report on a bot without a credential, or whose credential cannot be decrypted."""
    if isinstance(error, NoCredential):
        failure = Failure("number", Cause.REFUSED, "no credential is stored", "", NEW_CREDENTIAL_COMMAND)
    else:
        failure = Failure("number", Cause.REFUSED, str(error), "vault")
    return ProviderReport(failures=(failure,))


def _check(connect: Connect, settings: Settings, known: StoredBot) -> CheckedBot:
    report, bot = _ask(settings, known)
    found = problems(report, time.time())
    with connect() as connection:
        if bot is not None:
            identity.correct(connection, settings.decryption_keys, known.id, bot, report)
        check_records.record(connection, known.id, report, found)
    return CheckedBot(known.company, known.phone, known.type, known.phone_number_id, report, found)


def _ask(settings: Settings, known: StoredBot) -> tuple[ProviderReport, ProviderBot | None]:
    """The provider's report, and the bot with its credential; None if the bot has no usable credential."""
    try:
        token = encryption.decrypt(settings.decryption_keys, known.sealed)
    except EncryptionError as error:
        return unusable(error), None
    bot = ProviderBot(
        known.company, known.phone, known.type, token, known.phone_number_id or "", known.waba_id, known.ready
    )
    return query_provider(settings, bot), bot
