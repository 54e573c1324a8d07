"""Bots in the database: ids, credentials, holds, and messages that wait."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from bisnesctl import encryption
from bisnesctl.bots import web_sessions
from bisnesctl.database import quotas
from bisnesctl.database.postgres import Connection, query
from bisnesctl.database.quotas import Quota
from bisnesctl.errors import Conflict, UsageError
from bisnesctl.settings import Settings

#: The type of a new bot if none is given.
DEFAULT_TYPE = "meta_direct"
#: Characters of a company's id, at most.
MAX_COMPANY_LENGTH = 255
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class NewBot:
    """A bot to add or change; None leaves a property of an existing bot unchanged."""

    company: str
    phone: int
    type: str | None = None  # as in `phone_configs.connection_type`
    phone_number_id: str | None = None  # Meta's id of the number
    waba_id: str | None = None  # Meta's id of the business account
    display_number: str | None = None
    token: str | None = field(default=None, repr=False)  # Meta's access token, or 360dialog's API key
    rate: float | None = None  # messages per second; 0: the channel's setting


@dataclass(frozen=True, slots=True)
class StoredBot:
    """The stored properties of a bot that its provider is asked about."""

    id: int
    company: str
    phone: int
    type: str
    phone_number_id: str | None
    waba_id: str | None
    ready: bool  # False: its linking is unfinished
    sealed: str | None = field(repr=False)  # the credential, encrypted


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot and its queue."""

    company: str
    phone: int
    type: str
    process: str
    status: str
    phone_number_id: str | None
    display_number: str | None
    waiting: int  # messages that are not sent yet
    held_until: str | None  # the database's time; `infinity`: until an operator acts; None: not held
    held_reason: str | None
    outage: dict[str, Any] | None  # of its provider: since, code, reason; None: no outage
    waba_id: str | None
    rate: float | None  # messages per second; None: the channel's setting
    check: str | None  # result of the last check: ok, warning or error; None: no check yet
    checked_at: str | None  # the database's time
    problems: list[dict[str, Any]]  # of the last check: level, code, text, next
    session: str | None  # state of the WhatsApp Web session; None: no session
    session_reason: str | None
    blocked_until: str | None  # end of the session's block, in the form of held_until; None: not blocked
    blocked_reason: str | None
    hold_code: str | None = None  # the cause of the hold, see `hold_ends`
    paused: dict[str, Any] | None = None  # by an operator: since, until (null: until resumed), by, reason


_SAVE = """
INSERT INTO phone_configs AS c (company_id, phone_index, connection_type, meta_phone_number_id, meta_waba_id,
    display_phone_number, meta_access_token_encrypted, api_key_encrypted, status)
VALUES (%(company)s, %(phone)s, %(type)s, %(phone_number_id)s, %(waba_id)s, %(display_number)s,
    %(access_token)s, %(api_key)s, %(status)s)
ON CONFLICT (company_id, phone_index) DO UPDATE SET
    connection_type = excluded.connection_type,
    meta_phone_number_id = CASE WHEN %(exact)s THEN excluded.meta_phone_number_id
                                ELSE COALESCE(excluded.meta_phone_number_id, c.meta_phone_number_id) END,
    meta_waba_id = CASE WHEN %(exact)s THEN excluded.meta_waba_id
                        ELSE COALESCE(excluded.meta_waba_id, c.meta_waba_id) END,
    display_phone_number = COALESCE(excluded.display_phone_number, c.display_phone_number),
    meta_access_token_encrypted = COALESCE(excluded.meta_access_token_encrypted, c.meta_access_token_encrypted),
    api_key_encrypted = COALESCE(excluded.api_key_encrypted, c.api_key_encrypted),
    status = CASE WHEN excluded.connection_type = 'wwebjs' AND c.connection_type = 'wwebjs' THEN c.status
                  ELSE excluded.status END,
    updated_at = now()
RETURNING id, xmax = 0, meta_phone_number_id,
    CASE connection_type WHEN '360dialog' THEN api_key_encrypted ELSE meta_access_token_encrypted END"""

# An outage without a failed attempt for minutes and without waiting messages is not current: nothing is being sent.
_LIST = """
SELECT c.company_id, c.phone_index, COALESCE(c.connection_type, 'wwebjs'), c.process_name, COALESCE(c.status, ''),
       c.meta_phone_number_id, c.display_phone_number,
       (SELECT COALESCE(sum(pending), 0)::int FROM lane WHERE bot_id = c.id),
       CASE WHEN p.held_until > now() THEN
           CASE WHEN isfinite(p.held_until) THEN p.held_until::timestamptz(0)::text ELSE 'infinity' END END,
       CASE WHEN p.held_until > now() THEN p.held_reason END,
       CASE WHEN p.outage_since IS NOT NULL AND (
               p.outage_seen > now() - interval '5 minutes'
               OR EXISTS (SELECT FROM lane WHERE bot_id = c.id AND pending > 0)) THEN
           jsonb_build_object('since', p.outage_since::timestamptz(0)::text, 'code', p.outage_code,
               'reason', p.outage_reason) END, c.meta_waba_id, p.rate::float,
       NULLIF(k.status, 'unknown'), k.checked_at::timestamptz(0)::text, COALESCE(k.report -> 'problems', '[]'),
       CASE WHEN f.bot_id IS NULL THEN s.state ELSE 'NOT_MOVED' END,
       CASE WHEN f.bot_id IS NULL THEN s.reason ELSE 'the former server may still run it (`bisnesctl bots move`)' END,
       CASE WHEN isfinite(b.until) THEN b.until::timestamptz(0)::text ELSE b.until::text END, b.reason,
       CASE WHEN p.held_until > now() THEN p.hold_code END,
       CASE WHEN p.paused_until > now() THEN jsonb_build_object('since', p.paused_at::timestamptz(0)::text,
           'until', CASE WHEN isfinite(p.paused_until) THEN p.paused_until::timestamptz(0)::text END,
           'by', p.paused_by, 'reason', p.paused_reason) END
FROM phone_configs c LEFT JOIN bot_pace p ON p.bot_id = c.id LEFT JOIN bot_check k ON k.bot_id = c.id
    LEFT JOIN wa_session s ON s.bot_id = c.id AND c.process_name = 'wwebjs'
    LEFT JOIN wa_block b ON b.bot_id = c.id AND b.until > now() AND c.process_name = 'wwebjs'
    LEFT JOIN former_number f ON f.bot_id = c.id AND f.moved_at IS NULL AND c.process_name = 'wwebjs'
WHERE (%(company)s IS NULL OR c.company_id = %(company)s) AND (%(phone)s IS NULL OR c.phone_index = %(phone)s)
ORDER BY c.company_id, c.phone_index"""

_KNOWN = """
SELECT id, company_id, phone_index, COALESCE(connection_type, 'wwebjs'), meta_phone_number_id, meta_waba_id,
       status IS DISTINCT FROM 'pending',
       CASE connection_type WHEN '360dialog' THEN api_key_encrypted ELSE meta_access_token_encrypted END
FROM phone_configs
WHERE (%(company)s IS NULL OR company_id = %(company)s) AND (%(phone)s IS NULL OR phone_index = %(phone)s)
ORDER BY company_id, phone_index"""

# Incoming messages of a number go to the one bot that has it, so linking a number takes an advisory lock ("numb").
_LOCK_NUMBER = "SELECT pg_advisory_xact_lock(1853189474, hashtext(%s))"
_OTHERS = """
SELECT 1 FROM phone_configs WHERE meta_phone_number_id = %(phone_number_id)s AND process_name = 'meta'
    AND (company_id, phone_index) <> (%(company)s, %(phone)s)"""

# A bot without its number cannot send yet.
_UNFINISHED = """
UPDATE bot_pace SET held_until = 'infinity', held_reason = 'its linking is not finished: name its number again',
    hold_code = NULL
WHERE bot_id = %s"""

# No message is claimed while the bot's pace is locked. Messages in flight continue, and their outcome is recorded.
_LOCK = """
SELECT c.id, (SELECT COALESCE(sum(pending), 0)::int FROM lane WHERE bot_id = c.id)
FROM phone_configs c JOIN bot_pace p ON p.bot_id = c.id
WHERE c.company_id = %s AND c.phone_index = %s FOR UPDATE"""

_FAIL_WAITING = """
WITH emptied AS (
    UPDATE lane SET pending = (claim IS NOT NULL)::int WHERE bot_id = %(id)s AND pending > 0
    RETURNING chat_id, done, CASE WHEN claim IS NOT NULL THEN head END AS in_flight
)
UPDATE outbox o SET status = 'failed', error_code = 'bot_removed', error = %(error)s, updated_at = now(),
    timeline = timeline || jsonb_build_array(jsonb_build_object(
        'status', 'failed', 'at', now(), 'code', 'bot_removed', 'error', %(error)s::text))
FROM emptied e WHERE o.bot_id = %(id)s AND o.chat_id = e.chat_id AND o.id > e.done AND o.status <= 'sending'
    AND o.id IS DISTINCT FROM e.in_flight"""


def save(connection: Connection, bot: NewBot, settings: Settings, ready: bool = True, proved: bool = False) -> bool:
    """Adds a bot, or changes the bot with this company and phone and ends its hold. Returns whether it is new.

    `ready`: whether it can send already; `proved`: its ids are verified and complete, so they replace the stored ids.
    Raises `UsageError` if a property that the type needs is missing, or an id is given that the type does not have;
    `Conflict` if another bot has the number; `QuotaExceeded`.
    """
    check_company(bot.company)
    key = settings.encryption_key.get_secret_value()
    with connection:
        kind = bot.type or _type_of(connection, bot) or DEFAULT_TYPE
        check_ids(replace(bot, type=kind))
        columns = _columns(bot, kind, key, ready) | {"exact": proved or kind == "wwebjs"}
        query(connection, _LOCK_NUMBER, (bot.phone_number_id or "",))
        check_free(connection, bot)
        check_quota(connection, settings, replace(bot, type=kind))
        number, new, phone_number_id, token = query(connection, _SAVE, columns)[0]
        if ready:
            check_complete(kind, phone_number_id, token)
        if bot.rate is not None:
            query(connection, "UPDATE bot_pace SET rate = NULLIF(%s, 0) WHERE bot_id = %s", (bot.rate, number))
        if kind == "wwebjs":
            web_sessions.create(connection, number)
        query(connection, "SELECT release_bot(%s)", (number,))
        if not ready and phone_number_id is None:
            query(connection, _UNFINISHED, (number,))
    return bool(new)


def check_company(company: str) -> None:
    """Raises `UsageError` for an id that a command line or a line of a log cannot show."""
    if not 0 < len(company) <= MAX_COMPANY_LENGTH or _CONTROLS.search(company):
        raise UsageError(
            f"a company's id has 1 to {MAX_COMPANY_LENGTH} characters, without line breaks and other control characters"
        )


def check_free(connection: Connection, bot: NewBot) -> None:
    """Raises `Conflict` if another bot has the number."""
    values = {"phone_number_id": bot.phone_number_id, "company": bot.company, "phone": bot.phone}
    if bot.phone_number_id and query(connection, _OTHERS, values):
        raise Conflict(f"another bot has the number id {bot.phone_number_id}: remove that bot first")


def check_quota(connection: Connection, settings: Settings, bot: NewBot) -> None:
    """Raises `QuotaExceeded` if the company may not have this bot, of a known type, beside its others."""
    channel, quota = ("wwebjs", Quota.WEB_NUMBERS) if bot.type == "wwebjs" else ("meta", Quota.META_NUMBERS)
    quotas.check_number(connection, getattr(settings, quota.setting), bot.company, channel, bot.phone)


def check_ids(bot: NewBot) -> None:
    """Raises `UsageError` if ids are given for a WhatsApp Web bot, which has none."""
    if bot.type == "wwebjs" and (bot.phone_number_id or bot.waba_id):
        raise UsageError(
            "a WhatsApp Web bot has no ids in Meta's API: leave out phoneNumberId (--phone-number-id) and wabaId "
            "(--waba-id), or name another type"
        )


def check_complete(kind: str, phone_number_id: str | None, token: str | None) -> None:
    """Raises `UsageError` if a bot of this type lacks a property."""
    if kind in ("meta_direct", "meta_embedded") and not phone_number_id:
        raise UsageError(f"a {kind} bot needs its number's id in the Graph API: --phone-number-id (phoneNumberId)")
    if kind != "wwebjs" and not token:
        raise UsageError(f"a {kind} bot needs its token, on the standard input: --token-stdin <token.txt (token)")


def find(connection: Connection, company: str | None = None, phone: int | None = None) -> list[Bot]:
    """All bots, or those of a company, or the bot with this phone."""
    return [Bot(*row) for row in query(connection, _LIST, {"company": company, "phone": phone})]


def known(connection: Connection, company: str | None = None, phone: int | None = None) -> list[StoredBot]:
    """The same bots, with the properties that their providers are asked about."""
    return [StoredBot(*row) for row in query(connection, _KNOWN, {"company": company, "phone": phone})]


def waiting(connection: Connection, company: str, phone: int) -> int:
    """The number of messages that wait for a bot. Raises `UsageError` if there is no such bot."""
    found = find(connection, company, phone)
    if not found:
        raise _unknown(company, phone)
    return found[0].waiting


def remove(connection: Connection, company: str, phone: int, force: bool) -> int:
    """Removes a bot and returns how many messages failed with it.

    Raises `UsageError` if there is no such bot, `Conflict` if messages wait and `force` is false.
    """
    with connection:
        rows = query(connection, _LOCK, (company, phone))
        if not rows:
            raise _unknown(company, phone)
        number, left = rows[0]
        if left and not force:
            raise Conflict(
                f"{left} messages wait for bot {phone} of company {company}: wait until they are sent "
                "(`bisnesctl bots list` shows why they wait), or let them fail with --force"
            )
        query(connection, _FAIL_WAITING, {"id": number, "error": "its bot was removed by an operator"})
        query(connection, "DELETE FROM phone_configs WHERE id = %s", (number,))
    return int(left)


def _type_of(connection: Connection, bot: NewBot) -> str | None:
    found = query(
        connection,
        "SELECT COALESCE(connection_type, 'wwebjs') FROM phone_configs"
        " WHERE company_id = %s AND phone_index = %s FOR UPDATE",
        (bot.company, bot.phone),
    )
    return str(found[0][0]) if found else None


def _columns(bot: NewBot, kind: str, key: str, ready: bool) -> dict[str, object]:
    sealed = None if bot.token is None else encryption.encrypt_shared(key, bot.token)
    return {
        "company": bot.company,
        "phone": bot.phone,
        "type": kind,
        "phone_number_id": bot.phone_number_id,
        "waba_id": bot.waba_id,
        "display_number": bot.display_number,
        "access_token": None if kind == "360dialog" else sealed,
        "api_key": sealed if kind == "360dialog" else None,
        "status": "active" if ready and kind != "wwebjs" else "pending",
    }


def _unknown(company: str, phone: int) -> UsageError:
    return UsageError(f"company {company} has no bot {phone}: `bisnesctl bots list` shows all")
