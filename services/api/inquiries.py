"""What the API reads: messages of a chat with their whole life. Plain SQL; it writes nothing."""

from datetime import UTC, datetime
from typing import Any

from services.message import Status
from services.store import Connection, as_uuid

#: Beyond every message, for the first page.
NEWEST = 2**63 - 1

# Whether a message is in a worker's hand is said by its lane alone.
_LIFE = """
    o.id, o.message_id::text, o.company_id, o.chat_id, o.phone_index, o.kind,
    o.payload - 'quoted_provider_id',
    CASE WHEN o.status <= 'sending' AND EXISTS (
        SELECT FROM lane l
        WHERE l.bot_id = o.bot_id AND l.chat_id = o.chat_id AND l.head = o.id AND l.claim IS NOT NULL
    ) THEN 'sending' ELSE o.status::text END,
    o.attempts, o.error_code, o.error, o.provider_id, o.accepted_at, o.updated_at, o.timeline"""

# Each number's page comes off the primary key, whatever the length of the chat.
_PAGE = f"""
SELECT {_LIFE} FROM phone_configs p CROSS JOIN LATERAL (
    SELECT * FROM outbox
    WHERE bot_id = p.id AND chat_id = %(chat)s AND id < %(before)s AND company_id = p.company_id
    ORDER BY id DESC LIMIT %(limit)s) o
WHERE p.company_id = %(company)s AND (%(phone)s IS NULL OR p.phone_index = %(phone)s)
ORDER BY o.id DESC LIMIT %(limit)s"""

_ONE = f"SELECT {_LIFE} FROM outbox o WHERE o.message_id = %s AND o.company_id = %s AND o.chat_id = %s"

_OF_PROVIDER = "SELECT id FROM messages WHERE external_id = %s AND company_id = %s"


def page(
    connection: Connection, company_id: str, chat_id: str, phone_index: int | None, before: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Up to `limit` messages of a chat, newest first, and the `before` of the next page if there is one.

    Only those accepted before the message `before`. Without `phone_index` those of all the company's numbers.
    """
    values = {
        "company": company_id,
        "chat": chat_id,
        "phone": phone_index,
        "before": before,
        "limit": limit + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(_PAGE, values)
        rows = cursor.fetchall()
    more = len(rows) > limit
    return [_life(row) for row in rows[:limit]], rows[limit - 1][0] if more else None


def message(connection: Connection, company_id: str, chat_id: str, message_id: str) -> dict[str, Any] | None:
    """The chat's message with this id, ours or the provider's."""
    ours = as_uuid(message_id) or _of_provider(connection, company_id, message_id)
    if ours is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_ONE, (ours, company_id, chat_id))
        row = cursor.fetchone()
    return _life(row) if row else None


def _of_provider(connection: Connection, company_id: str, provider_id: str) -> str | None:
    with connection.cursor() as cursor:
        cursor.execute(_OF_PROVIDER, (provider_id, company_id))
        row = cursor.fetchone()
    return row[0] if row else None


def _life(row: tuple[Any, ...]) -> dict[str, Any]:
    code, reason, accepted = row[9], row[10], row[12]
    return {
        "messageId": row[1],
        "companyId": row[2],
        "chatId": row[3],
        "phoneIndex": row[4],
        "kind": row[5],
        "payload": row[6],
        "status": row[7],
        "statuses": [{"status": Status.QUEUED, "at": _utc(accepted)}, *_statuses(row[14])],
        "attempts": row[8],
        "error": {"code": code, "reason": reason} if code or reason else None,
        "providerId": row[11],
        "acceptedAt": _utc(accepted),
        "updatedAt": _utc(row[13]),
    }


_STAGES = {status: place for place, status in enumerate(Status)} | {Status.QUEUED: 0, Status.WAITING: 0}


def _statuses(timeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The timeline in the order of a message's life; the provider's reports may have come in another."""
    entries = sorted(timeline, key=lambda entry: _STAGES[Status(entry["status"])])
    return [
        {"reason" if name == "error" else name: value for name, value in entry.items()}
        | {"at": _utc(datetime.fromisoformat(entry["at"]))}
        for entry in entries
    ]


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
