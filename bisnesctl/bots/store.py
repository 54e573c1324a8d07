"""The bots: a company's numbers, their credentials, what holds them, and what waits for them."""

from dataclasses import dataclass, field, replace
from typing import Any

from bisnesctl import encryption
from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import Conflict, UsageError

#: The type of a new bot of which none is told.
USUAL_TYPE = "meta_direct"


@dataclass(frozen=True, slots=True)
class NewBot:
    """What is told of a bot; of one that is known already, what is not told stays."""

    company: str
    phone: int
    type: str | None = None  # as `phone_configs.connection_type` has it
    phone_number_id: str | None = None  # Meta's id of the number
    waba_id: str | None = None  # Meta's id of the business account
    display_number: str | None = None
    token: str | None = field(default=None, repr=False)  # Meta's access token, or 360dialog's API key
    rate: float | None = None  # messages a second; 0: the channel's setting


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of a bot, for questions to its provider."""

    id: int
    company: str
    phone: int
    type: str
    phone_number_id: str | None
    waba_id: str | None
    ready: bool  # False: its linking was not finished
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
    outage: dict[str, Any] | None  # of its provider: since, code, reason; None: there is none
    waba_id: str | None
    rate: float | None  # messages a second; None: the channel's setting
    check: str | None  # what the last check found: ok, warning or error; None: there was none
    checked_at: str | None  # the database's time
    problems: list[dict[str, Any]]  # what it found wrong: level, code, text, next
    session: str | None  # of WhatsApp Web: its state; None: it has none
    session_reason: str | None
    blocked_until: str | None  # as held_until: its session is not started before; None: it is not blocked
    blocked_reason: str | None


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

# An outage in which no attempt failed for minutes, and nothing waits, says nothing of now: nobody tries to send.
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
       s.state, s.reason,
       CASE WHEN isfinite(b.until) THEN b.until::timestamptz(0)::text ELSE b.until::text END, b.reason
FROM phone_configs c LEFT JOIN bot_pace p ON p.bot_id = c.id LEFT JOIN bot_check k ON k.bot_id = c.id
    LEFT JOIN wa_session s ON s.bot_id = c.id AND c.process_name = 'wwebjs'
    LEFT JOIN wa_block b ON b.bot_id = c.id AND b.until > now() AND c.process_name = 'wwebjs'
WHERE (%(company)s IS NULL OR c.company_id = %(company)s) AND (%(phone)s IS NULL OR c.phone_index = %(phone)s)
ORDER BY c.company_id, c.phone_index"""

_KNOWN = """
SELECT id, company_id, phone_index, COALESCE(connection_type, 'wwebjs'), meta_phone_number_id, meta_waba_id,
       status IS DISTINCT FROM 'pending',
       CASE connection_type WHEN '360dialog' THEN api_key_encrypted ELSE meta_access_token_encrypted END
FROM phone_configs
WHERE (%(company)s IS NULL OR company_id = %(company)s) AND (%(phone)s IS NULL OR phone_index = %(phone)s)
ORDER BY company_id, phone_index"""

# What comes in for a number goes to the one bot that has it. Links of one number wait for each other: "numb".
_ALONE = "SELECT pg_advisory_xact_lock(1853189474, hashtext(%s))"
_OTHERS = """
SELECT 1 FROM phone_configs WHERE meta_phone_number_id = %(phone_number_id)s AND process_name = 'meta'
    AND (company_id, phone_index) <> (%(company)s, %(phone)s)"""

# Without its number a bot cannot send yet.
_UNFINISHED = """
UPDATE bot_pace SET held_until = 'infinity', held_reason = 'its linking is not finished: name its number again'
WHERE bot_id = %s"""

# Nothing is claimed while the bot's pace is locked. What a worker has in hand goes on, and its outcome is recorded.
_LOCK = """
SELECT c.id, (SELECT COALESCE(sum(pending), 0)::int FROM lane WHERE bot_id = c.id)
FROM phone_configs c JOIN bot_pace p ON p.bot_id = c.id
WHERE c.company_id = %s AND c.phone_index = %s FOR UPDATE"""

_GIVE_UP = """
WITH emptied AS (
    UPDATE lane SET pending = (claim IS NOT NULL)::int WHERE bot_id = %(id)s AND pending > 0
    RETURNING chat_id, done, CASE WHEN claim IS NOT NULL THEN head END AS in_hand
)
UPDATE outbox o SET status = 'failed', error_code = 'bot_removed', error = %(error)s, updated_at = now(),
    timeline = timeline || jsonb_build_array(jsonb_build_object(
        'status', 'failed', 'at', now(), 'code', 'bot_removed', 'error', %(error)s::text))
FROM emptied e WHERE o.bot_id = %(id)s AND o.chat_id = e.chat_id AND o.id > e.done AND o.status <= 'sending'
    AND o.id IS DISTINCT FROM e.in_hand"""


def save(connection: Connection, bot: NewBot, key: str, ready: bool = True, proved: bool = False) -> bool:
    """Adds a bot, or changes the one with this company and phone, whose hold ends. Returns whether it is new.

    `key`: ENCRYPTION_KEY; `ready`: whether it can send already; `proved`: its ids are all that was proved, so they
    replace those that are stored. Raises `UsageError` where something that its type needs is told neither now nor
    before or an id is told that its type does not have, `Conflict` where another bot has its number.
    """
    with connection:
        kind = bot.type or _type_of(connection, bot) or USUAL_TYPE
        check_ids(replace(bot, type=kind))
        columns = _columns(bot, kind, key, ready) | {"exact": proved or kind == "wwebjs"}
        query(connection, _ALONE, (bot.phone_number_id or "",))
        check_free(connection, bot)
        number, new, phone_number_id, token = query(connection, _SAVE, columns)[0]
        if ready:
            check_complete(kind, phone_number_id, token)
        if bot.rate is not None:
            query(connection, "UPDATE bot_pace SET rate = NULLIF(%s, 0) WHERE bot_id = %s", (bot.rate, number))
        query(connection, "SELECT release_bot(%s)", (number,))
        if not ready and phone_number_id is None:
            query(connection, _UNFINISHED, (number,))
    return bool(new)


def check_free(connection: Connection, bot: NewBot) -> None:
    """Raises `Conflict` where another bot has its number."""
    values = {"phone_number_id": bot.phone_number_id, "company": bot.company, "phone": bot.phone}
    if bot.phone_number_id and query(connection, _OTHERS, values):
        raise Conflict(f"another bot has the number id {bot.phone_number_id}: remove that one first")


def check_ids(bot: NewBot) -> None:
    """Raises `UsageError` where a WhatsApp Web number is given ids, which its provider does not have."""
    if bot.type == "wwebjs" and (bot.phone_number_id or bot.waba_id):
        raise UsageError(
            "a WhatsApp Web number has no ids in Meta's API: leave out phoneNumberId (--phone-number-id) and wabaId "
            "(--waba-id), or name another type"
        )


def check_complete(kind: str, phone_number_id: str | None, token: str | None) -> None:
    """Raises `UsageError` where a bot of this type lacks something that it needs."""
    if kind in ("meta_direct", "meta_embedded") and not phone_number_id:
        raise UsageError(f"a {kind} bot needs its number's id in the Graph API: --phone-number-id (phoneNumberId)")
    if kind != "wwebjs" and not token:
        raise UsageError(f"a {kind} bot needs its token, on the standard input: --token-stdin <token.txt (token)")


def find(connection: Connection, company: str | None = None, phone: int | None = None) -> list[Bot]:
    """All bots, or those of a company, or the one with this phone."""
    return [Bot(*row) for row in query(connection, _LIST, {"company": company, "phone": phone})]


def known(connection: Connection, company: str | None = None, phone: int | None = None) -> list[Known]:
    """The same bots, as their providers know them."""
    return [Known(*row) for row in query(connection, _KNOWN, {"company": company, "phone": phone})]


def waiting(connection: Connection, company: str, phone: int) -> int:
    """How many messages wait for a bot. Raises `UsageError` where there is no such bot."""
    found = find(connection, company, phone)
    if not found:
        raise _unknown(company, phone)
    return found[0].waiting


def remove(connection: Connection, company: str, phone: int, force: bool) -> int:
    """Removes a bot and returns how many messages failed with it.

    Raises `UsageError` where there is no such bot, `Conflict` where messages wait for it, unless it is by force.
    """
    with connection:
        rows = query(connection, _LOCK, (company, phone))
        if not rows:
            raise _unknown(company, phone)
        number, left = rows[0]
        if left and not force:
            raise Conflict(
                f"{left} messages wait for bot {phone} of company {company}: let them leave first "
                "(`bisnesctl bots list` says what holds them), or give them up with --force"
            )
        query(connection, _GIVE_UP, {"id": number, "error": "its bot was removed by an operator"})
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
    sealed = None if bot.token is None else encryption.encrypt(key, bot.token)
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
