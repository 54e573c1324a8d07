"""Quotas of companies: the limits that an operator sets, and how much of them is used.

A limit comes from the settings (`QUOTA_…`), or from the table `company_quota` for one company. Changes of that table
are announced, so running processes apply them at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from enum import StrEnum

from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import Conflict, UsageError
from bisnesctl.setting_types import NO_LIMIT, quota_limit
from bisnesctl.settings import Settings

#: The word that ends a company's own limit.
DEFAULT = "default"
#: Bytes of a megabyte, as media are counted.
MB_BYTES = 1 << 20


class Quota(StrEnum):
    """A quota. Its setting is its name with the prefix `quota_`."""

    META_NUMBERS = "meta_numbers"
    WEB_NUMBERS = "web_numbers"
    WEB_SESSIONS = "web_sessions"
    MEDIA_MB = "media_mb"
    REQUESTS_PER_SECOND = "requests_per_second"
    WAITING_MESSAGES = "waiting_messages"
    IDEMPOTENCY_KEYS = "idempotency_keys"
    WEBHOOK_CALLS_PER_MINUTE = "webhook_calls_per_minute"

    @property
    def setting(self) -> str:
        """The field of `Settings` with its default."""
        return f"quota_{self.value}"


class QuotaExceeded(Conflict):
    """The company has used up a quota."""


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """A quota of a company."""

    company: str
    quota: Quota
    used: int | None  # None: a rate, which only the processes count
    limit: int | None  # None: unlimited
    own: bool  # whether the limit is the company's own, not the default
    frees_up: str  # what makes room once it is used up
    frees_up_at: str | None = None  # when there is room at the earliest, if it is used up and that is known

    @property
    def is_used_up(self) -> bool:
        """Whether there is no room."""
        return self.limit is not None and self.used is not None and self.used >= self.limit


_OWN = "SELECT company_id, name, value FROM company_quota"
_SET = """
INSERT INTO company_quota (company_id, name, value) VALUES (%s, %s, %s)
ON CONFLICT (company_id, name) DO UPDATE SET value = excluded.value"""
_RESET = "DELETE FROM company_quota WHERE company_id = %s AND name = %s"
_COMPANIES = """
SELECT company_id FROM phone_configs UNION SELECT company_id FROM api_keys WHERE company_id IS NOT NULL
UNION SELECT company_id FROM company_quota UNION SELECT company_id FROM media_file"""

#: Days for which an idempotency key is remembered.
IDEMPOTENCY_KEY_DAYS = 7
#: The event that makes room in a quota that is used up.
FREES_UP = {
    Quota.META_NUMBERS: "once a number is removed",
    Quota.WEB_NUMBERS: "once a number is removed",
    Quota.WEB_SESSIONS: "once a session stops",
    Quota.MEDIA_MB: "once the limit is raised; files of messages are kept",
    Quota.REQUESTS_PER_SECOND: "within a second",
    Quota.WAITING_MESSAGES: "as messages are sent, fail or are cancelled",
    Quota.IDEMPOTENCY_KEYS: f"{IDEMPOTENCY_KEY_DAYS} days after a key was first used",
    Quota.WEBHOOK_CALLS_PER_MINUTE: "within a minute",
}

_ALL = "(%(company)s::text IS NULL OR company_id = %(company)s)"
_NUMBERS = f"""
    SELECT company_id, count(*)::bigint FROM phone_configs WHERE process_name = '{{channel}}' AND {_ALL}
    GROUP BY company_id"""
#: The statements that measure how much each company, or the one that is named, uses.
MEASUREMENTS = {
    Quota.META_NUMBERS: _NUMBERS.format(channel="meta"),
    Quota.WEB_NUMBERS: _NUMBERS.format(channel="wwebjs"),
    Quota.WEB_SESSIONS: f"""
        SELECT company_id, count(*)::bigint FROM wa_session s JOIN phone_configs c ON c.id = s.bot_id
        WHERE s.state NOT IN ('STOPPED', 'FAILED') AND {_ALL} GROUP BY company_id""",
    Quota.MEDIA_MB: f"""
        SELECT company_id, ceil(sum(bytes) / {MB_BYTES}.0)::bigint FROM media_file WHERE {_ALL} GROUP BY company_id""",
    Quota.WAITING_MESSAGES: f"""
        SELECT company_id, sum(pending)::bigint FROM (
            SELECT bot_id, pending FROM lane WHERE pending > 0 AND claim IS NULL
            UNION ALL SELECT bot_id, pending FROM lane WHERE claim IS NOT NULL) l
        JOIN phone_configs c ON c.id = l.bot_id WHERE {_ALL} GROUP BY company_id""",
    Quota.IDEMPOTENCY_KEYS: f"""
        SELECT company_id, count(*)::bigint FROM idempotency_keys WHERE {_ALL} GROUP BY company_id""",
}

_OLDEST_KEY = "SELECT min(created_at) + %s * interval '1 day' FROM idempotency_keys WHERE company_id = %s"

# Two transactions that add a number of the same company count one after the other ("quot").
_LOCK_COMPANY = "SELECT pg_advisory_xact_lock(1903521652, hashtext(%s))"
_OTHER_NUMBERS = """
SELECT count(*) FROM phone_configs WHERE company_id = %s AND process_name = %s AND phone_index <> %s"""
_HAS_NUMBER = "SELECT 1 FROM phone_configs WHERE company_id = %s AND process_name = %s AND phone_index = %s"
_OWN_LIMIT = "SELECT value FROM company_quota WHERE company_id = %s AND name = %s"

OwnLimits = Mapping[tuple[str, Quota], int | None]


def own_limits(connection: Connection) -> dict[tuple[str, Quota], int | None]:
    """The limits of single companies, by company and quota; None: unlimited."""
    rows, known = query(connection, _OWN), set(Quota)
    return {(company, Quota(name)): value for company, name, value in rows if name in known}


def limit_of(own: OwnLimits, settings: Settings, company: str, quota: Quota) -> int | None:
    """The limit of a company; None: unlimited."""
    default: int | None = getattr(settings, quota.setting)
    return own.get((company, quota), default)


def measure(connection: Connection, quota: Quota, company: str | None = None) -> dict[str, int]:
    """How much each company, or one, uses of a quota of `MEASUREMENTS`."""
    return dict(query(connection, MEASUREMENTS[quota], {"company": company}))


def find(connection: Connection, settings: Settings, company: str | None = None) -> list[QuotaUse]:
    """The quotas of all companies, or of one, with their use."""
    own = own_limits(connection)
    used = {quota: measure(connection, quota, company) for quota in MEASUREMENTS}
    companies = [company] if company is not None else sorted(row[0] for row in query(connection, _COMPANIES))
    found = [
        QuotaUse(
            each, quota, used[quota].get(each, 0) if quota in used else None,
            limit_of(own, settings, each, quota), (each, quota) in own, FREES_UP[quota],
        )
        for each in companies
        for quota in Quota
    ]  # fmt: skip
    return [_with_time(connection, each) if each.is_used_up else each for each in found]


def _with_time(connection: Connection, found: QuotaUse) -> QuotaUse:
    """The quota with the time when it frees up, if that is known."""
    if found.quota is not Quota.IDEMPOTENCY_KEYS:
        return found
    at = query(connection, _OLDEST_KEY, (IDEMPOTENCY_KEY_DAYS, found.company))[0][0]
    return replace(found, frees_up_at=at and f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")


def parse(text: str) -> tuple[Quota, int | str | None]:
    """`NAME=VALUE` as typed: the quota, and its limit, None for unlimited, or `DEFAULT`. Raises `UsageError`."""
    name, _, value = text.partition("=")
    if name not in set(Quota):
        raise UsageError(f"there is no quota {name!r}: the quotas are {', '.join(Quota)}")
    if value == DEFAULT:
        return Quota(name), DEFAULT
    try:
        return Quota(name), quota_limit(value)
    except ValueError as error:
        raise UsageError(f"{name}: {error}, or {DEFAULT} for the value of {Quota(name).setting.upper()}") from None


def change(connection: Connection, company: str, wanted: Iterable[tuple[Quota, int | str | None]]) -> None:
    """Changes the limits of a company, all or none; `DEFAULT` removes a limit of its own."""
    with connection:
        for quota, value in wanted:
            if value == DEFAULT:
                query(connection, _RESET, (company, quota.value))
            else:
                query(connection, _SET, (company, quota.value, value))


def check_number(connection: Connection, default: int | None, company: str, channel: str, phone: int) -> None:
    """Raises `QuotaExceeded` if the company may have no further number on this channel.

    Within the transaction that adds it. `default`: the limit of companies without one of their own. A number that it
    has already is no further one.
    """
    quota = Quota.WEB_NUMBERS if channel == "wwebjs" else Quota.META_NUMBERS
    query(connection, _LOCK_COMPANY, (company,))
    if query(connection, _HAS_NUMBER, (company, channel, phone)):
        return
    own = query(connection, _OWN_LIMIT, (company, quota.value))
    limit = own[0][0] if own else default
    used = int(query(connection, _OTHER_NUMBERS, (company, channel, phone))[0][0])
    if limit is not None and used >= limit:
        kind = "WhatsApp Web numbers" if channel == "wwebjs" else "numbers of Meta and 360dialog"
        raise QuotaExceeded(
            f"company {company} has {used} of {limit} {kind}: remove one, or have an operator raise the quota "
            f"(`bisnesctl quotas set {company} {quota}={used + 1}`)"
        )


def shown_limit(limit: int | None) -> str:
    """A limit for people."""
    return NO_LIMIT if limit is None else str(limit)
