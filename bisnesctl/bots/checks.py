"""Looks at numbers now: asks their providers, and keeps what they say."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from bisnesctl import encryption
from bisnesctl.bots import check_records, identity, store
from bisnesctl.bots.linking import Connect
from bisnesctl.bots.provider_queries import ProviderBot, query_provider
from bisnesctl.bots.provider_report import RELINK, Cause, Failure, Level, Problem, Report, level, problems
from bisnesctl.bots.store import Known
from bisnesctl.encryption import EncryptionError
from bisnesctl.errors import UsageError
from bisnesctl.settings import Settings


@dataclass(frozen=True, slots=True)
class CheckedBot:
    """What a number's provider says, and what is wrong with that."""

    company: str
    phone: int
    type: str
    phone_number_id: str | None
    report: Report
    problems: list[Problem]

    @property
    def name(self) -> str:
        """The bot's name: <companyId>-<phoneIndex>."""
        return f"{self.company}-{self.phone}"

    @property
    def level(self) -> Level:
        """How bad it is."""
        return level(self.problems)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "status": self.level.value}


def check(
    connect: Connect, settings: Settings, company: str | None = None, phone: int | None = None
) -> list[CheckedBot]:
    """Asks about all Meta and 360dialog numbers, those of a company or one, and keeps the answers.

    No connection is held meanwhile. Raises `UsageError` where one is named that is none.
    """
    with connect() as connection:
        found = store.known(connection, company, phone)
    subjects = [each for each in found if each.type != "wwebjs"]
    if not subjects and phone is not None:
        kind = "is a WhatsApp Web number, which no provider knows" if found else "does not exist"
        raise UsageError(f"bot {phone}{f' of company {company}' if company else ''} {kind}: see `bisnesctl bots list`")
    return [_check(connect, settings, each) for each in subjects]


def broken(error: EncryptionError) -> Report:
    """The report on a number whose credential cannot be read."""
    return Report(failures=(Failure("number", Cause.REFUSED, str(error), "vault"),))


def _check(connect: Connect, settings: Settings, known: Known) -> CheckedBot:
    report, subject = _ask(settings, known)
    found = problems(report, time.time())
    with connect() as connection:
        if subject is not None:
            identity.correct(connection, settings.encryption_key.get_secret_value(), known.id, subject, report)
        check_records.record(connection, known.id, report, found)
    return CheckedBot(known.company, known.phone, known.type, known.phone_number_id, report, found)


def _ask(settings: Settings, known: Known) -> tuple[Report, ProviderBot | None]:
    """What the provider says, and about what it was asked; None: there is nothing to ask with."""
    if not known.sealed:
        return Report(failures=(Failure("number", Cause.REFUSED, "no credential is stored", "", RELINK),)), None
    try:
        token = encryption.decrypt(settings.encryption_key.get_secret_value(), known.sealed)
    except EncryptionError as error:
        return broken(error), None
    subject = ProviderBot(
        known.company, known.phone, known.type, token, known.phone_number_id or "", known.waba_id, known.ready
    )
    return query_provider(settings, subject), subject
