"""WhatsApp Web sessions in the database: whether they are to run, their state, and their blocks."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bisnesctl.database.postgres import Connection, query
from bisnesctl.errors import Conflict, UsageError
from bisnesctl.formatting import duration
from bisnesctl.naming import session_name

#: The status of a number that is not in use here yet, which is no failure.
NOTE = "note"


@dataclass(frozen=True, slots=True)
class Block:
    """Why a session is not started."""

    kind: str  # failed_starts, logged_out, conflict, banned, wrong_number or operator
    reason: str
    since: datetime
    until: datetime | None  # None: until an operator lifts it

    @property
    def end(self) -> str:
        """The end of the block, for people."""
        return "until you unblock it" if self.until is None else f"until {self.until:%Y-%m-%d %H:%M:%S %Z}"


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds since events, by the database's clock; None: it did not happen."""

    change: float | None = None  # since the last change of state
    start: float | None = None  # since the start of its process
    beat: float | None = None  # since the last heartbeat of its current page


@dataclass(frozen=True, slots=True)
class QrCode:
    """A QR code that links a phone. It is a credential of the session."""

    text: str = field(repr=False)
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class WebSession:
    """The session of one bot."""

    bot_id: int
    company: str
    phone: int
    wanted: bool  # whether it is to run
    state: str  # STOPPED, STARTING, SCAN_QR_CODE, WORKING or FAILED
    reason: str | None
    changed_at: datetime | None  # the last change of state
    started_at: datetime | None  # None: it is to be started
    number: str | None  # digits of the linked phone number
    beat_at: datetime | None  # the last heartbeat of its page
    failed_starts: int  # in a row
    memory_mb: float | None  # PSS, with its browser
    versions: dict[str, str]
    block: Block | None
    host: str | None = None  # where it runs, or ran last
    ages: Ages = Ages()
    qr: QrCode | None = field(default=None, repr=False)  # the one that it shows now
    linked: bool = False  # whether a phone was ever linked here
    moved: bool = True  # False: the former server may still run it, so no browser is opened here

    @property
    def name(self) -> str:
        """The bot's name: <companyId>-<phoneIndex>."""
        return f"{self.company}-{self.phone}"

    @property
    def runs(self) -> bool:
        """Whether its state says that it runs or is starting."""
        return self.state not in ("STOPPED", "FAILED")

    def silence(self) -> float | None:
        """Seconds since the last heartbeat of its page; None if it should not work."""
        return self.ages.beat if self.state == "WORKING" else None

    def current_reason(self, limit: float) -> str | None:
        """The reason of its state: a silence of more than `limit` seconds, or else the stored reason."""
        silence = self.silence()
        if silence is not None and silence > limit:
            return f"its page has given no heartbeat for {silence:.0f} s"
        return self.reason

    def trouble(self, limit: float) -> tuple[str, str, str] | None:
        """The trouble that an operator should know: a status, the reason and the next command; None if there is none.

        The status is blocked, failed, stopped, unlinked, or (for more than `limit` seconds) silent or starting; or
        `NOTE` for a number that is not in use here yet.
        """
        bot, reason = f"{self.company} {self.phone}", self.current_reason(limit) or ""
        if not self.moved:
            return NOTE, "the former server may still run it", f"bisnesctl bots move {bot}"
        if self.block is not None:
            return "blocked", f"{self.block.end}: {self.block.reason}", f"bisnesctl bots unblock {bot}"
        if not self.wanted:
            return None
        if not self.linked and (self.state == "SCAN_QR_CODE" or (self.state == "STOPPED" and reason)):
            return NOTE, "no phone was ever linked to it", f"bisnesctl bots link {bot}"
        if self.state == "SCAN_QR_CODE":
            return "unlinked", "no phone is linked to it", f"bisnesctl bots link {bot}"
        if self.state == "FAILED" or (self.state == "STOPPED" and reason):
            return self.state.lower(), reason, "bisnesctl bots list"
        if self.state == "STARTING" and (lasts := self.ages.change or 0.0) > limit:
            why = f": {reason}" if reason else ""
            return "starting", f"for {duration(lasts)}{why}", f"bisnesctl logs {session_name(self.company, self.phone)}"
        silence = self.silence()
        return ("silent", reason, "bisnesctl bots list") if silence is not None and silence > limit else None


_FIND = """
SELECT c.id, c.company_id, c.phone_index, COALESCE(s.wanted, true), COALESCE(s.state, 'STOPPED'), s.reason,
       s.changed_at, s.started_at, s.own_number, s.beat_at, COALESCE(s.failed_starts, 0), s.memory_mb,
       COALESCE(s.versions, '{}'), s.host, extract(epoch FROM now() - s.changed_at)::float,
       extract(epoch FROM now() - s.started_at)::float,
       CASE WHEN COALESCE(s.beat_at >= s.started_at, true) THEN extract(epoch FROM now() - s.beat_at)::float END,
       b.kind, b.reason, b.since, NULLIF(b.until, 'infinity'),
       CASE WHEN s.state = 'SCAN_QR_CODE' AND COALESCE(s.qr_expires_at, 'infinity') > now() THEN s.qr END,
       s.qr_expires_at, s.bound_number IS NOT NULL,
       NOT EXISTS (SELECT FROM former_number f WHERE f.bot_id = c.id AND f.moved_at IS NULL)
FROM phone_configs c LEFT JOIN wa_session s ON s.bot_id = c.id
    LEFT JOIN wa_block b ON b.bot_id = c.id AND b.until > now()
WHERE c.process_name = 'wwebjs' AND (%(company)s IS NULL OR c.company_id = %(company)s)
    AND (%(phone)s IS NULL OR c.phone_index = %(phone)s)
ORDER BY c.company_id, c.phone_index"""

# The manager starts a session that has no time of start.
_WANT = """
INSERT INTO wa_session AS s (bot_id, wanted) VALUES (%(bot)s, %(wanted)s)
ON CONFLICT (bot_id) DO UPDATE SET wanted = excluded.wanted,
    started_at = CASE WHEN s.state NOT IN ('STOPPED', 'FAILED') THEN s.started_at END"""

_UNBLOCK = """
WITH lifted AS (DELETE FROM wa_block WHERE bot_id = %(bot)s)
UPDATE wa_session SET failed_starts = 0, started_at = NULL, wanted = true WHERE bot_id = %(bot)s"""


# The display number is removed too, unless an operator changed it.
_RELEASE = """
WITH bound AS (
    SELECT bot_id, bound_number FROM wa_session s WHERE bot_id = %(bot)s AND (
        %(with_queue)s OR NOT EXISTS (SELECT FROM lane l WHERE l.bot_id = s.bot_id AND l.pending > 0)) FOR UPDATE
), released AS (
    UPDATE wa_session s SET bound_number = NULL FROM bound b WHERE s.bot_id = b.bot_id
)
UPDATE phone_configs c SET display_phone_number = NULL
FROM bound b WHERE c.id = b.bot_id AND c.display_phone_number = b.bound_number"""


_MOVE = """
WITH moved AS (
    UPDATE former_number SET moved_at = now() WHERE bot_id = %(bot)s AND moved_at IS NULL
), session AS (
    INSERT INTO wa_session (bot_id) VALUES (%(bot)s)
    ON CONFLICT (bot_id) DO UPDATE SET wanted = true, started_at = NULL
)
SELECT pg_notify('bisnes_sessions', 'former_number')"""
_RETURN = """
WITH returned AS (
    INSERT INTO former_number (bot_id) VALUES (%(bot)s) ON CONFLICT (bot_id) DO UPDATE SET moved_at = NULL
)
SELECT pg_notify('bisnes_sessions', 'former_number')"""


def find(connection: Connection, company: str | None = None, phone: int | None = None) -> list[WebSession]:
    """All sessions, or those of a company, or that of a phone. A session that was never started is STOPPED."""
    return [_session(row) for row in query(connection, _FIND, {"company": company, "phone": phone})]


def find_one(connection: Connection, company: str, phone: int) -> WebSession:
    """One session. Raises `UsageError` if the company has no such WhatsApp Web bot."""
    found = find(connection, company, phone)
    if not found:
        raise UsageError(
            f"company {company} has no WhatsApp Web bot {phone}: `bisnesctl bots list` shows all, "
            f"`bisnesctl bots add --company {company} --phone {phone} --wwebjs` adds one"
        )
    return found[0]


def want(connection: Connection, session: WebSession, wanted: bool) -> None:
    """Requests that the manager starts or stops a session. Raises `Conflict` if it is blocked or not moved."""
    if wanted and not session.moved:
        raise Conflict(not_moved(session))
    if wanted and session.block is not None:
        raise Conflict(blocked(session, session.block))
    query(connection, _WANT, {"bot": session.bot_id, "wanted": wanted})


def not_moved(session: WebSession) -> str:
    """That the former server may still run the number, and the next step, for people."""
    return (
        f"bot {session.phone} of company {session.company} was not moved from the former server yet: stop it there, "
        f"then `bisnesctl bots move {session.company} {session.phone}`"
    )


def unblock(connection: Connection, session: WebSession) -> None:
    """Lifts the block, if there is one, and requests that the manager starts the session."""
    query(connection, _UNBLOCK, {"bot": session.bot_id})


def create(connection: Connection, bot_id: int) -> None:
    """Gives a bot that is added here a session, if it has none."""
    query(connection, "INSERT INTO wa_session (bot_id) VALUES (%s) ON CONFLICT DO NOTHING", (bot_id,))


def move(connection: Connection, session: WebSession) -> None:
    """The former server does not run the number any more: the manager starts its session."""
    query(connection, _MOVE, {"bot": session.bot_id})


def move_back(connection: Connection, session: WebSession) -> None:
    """The former server is to run the number again: the manager stops its session."""
    query(connection, _RETURN, {"bot": session.bot_id})


def bound_number(connection: Connection, bot_id: int) -> str | None:
    """Digits of the only phone number that may be linked to a session; None: any number."""
    rows = query(connection, "SELECT bound_number FROM wa_session WHERE bot_id = %s", (bot_id,))
    return rows[0][0] if rows else None


def release_number(connection: Connection, bot_id: int, with_queue: bool) -> None:
    """Allows any phone number to be linked; `with_queue`: even if messages wait, which that number then sends."""
    query(connection, _RELEASE, {"bot": bot_id, "with_queue": with_queue})


def blocked(session: WebSession, block: Block) -> str:
    """The block and how to lift it, for people."""
    return (
        f"bot {session.phone} of company {session.company} is blocked {block.end}: {block.reason}; "
        f"an operator unblocks it: `bisnesctl bots unblock {session.company} {session.phone}`"
    )


def _session(row: tuple[Any, ...]) -> WebSession:
    *columns, host, change, start, beat, kind, reason, since, until, qr, qr_expires_at, linked, moved = row
    block = None if kind is None else Block(kind, reason, since, until)
    code = None if qr is None else QrCode(qr, qr_expires_at)
    return WebSession(*[*columns, block, host, Ages(change, start, beat), code, linked, moved])
