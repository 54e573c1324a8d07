"""A message as callers are told of it: the columns to be read, and what is made of them, for both directions."""

from datetime import datetime
from typing import Any

from services.api.messages import holds
from services.api.messages.holds import utc
from services.message import Status

Row = dict[str, Any]

# Whether a message is in a worker's hand is said by its lane alone; whether an operator must act, by its number's hold.
#: Columns of a row `o` of the outbox and, where it was sent, its row `m` of the history.
OURS = f"""
    o.id AS number, o.accepted_at AS moment, o.message_id::text AS "messageId", o.company_id AS "companyId",
    o.phone_index AS "phoneIndex", true AS "fromMe", o.kind, o.payload,
    CASE WHEN o.status <= 'sending' AND EXISTS (
        SELECT FROM lane l
        WHERE l.bot_id = o.bot_id AND l.chat_id = o.chat_id AND l.head = o.id AND l.claim IS NOT NULL
    ) THEN 'sending' WHEN o.status = 'queued' AND EXISTS (
        SELECT FROM bot_pace p WHERE p.bot_id = o.bot_id AND p.held_until = 'infinity'
    ) THEN 'waiting' ELSE o.status::text END AS status, {holds.HOLD} AS hold,
    o.attempts, o.error_code AS code, o.error AS reason, o.provider_id AS "providerId", o.updated_at AS changed,
    o.timeline, m.reaction, COALESCE(m.edited, false) AS edited"""

#: Columns of a row `m` of the history that the outbox does not know.
THEIRS = """
    m.timestamp AS moment, m.id::text AS "messageId", m.company_id AS "companyId",
    m.phone_index AS "phoneIndex",
    COALESCE(m.from_me, m.direction = 'outbound', false) AS "fromMe", COALESCE(m.message_type, 'unknown') AS kind,
    m.content AS body, m.author, COALESCE(m.status, '') AS status,
    COALESCE(m.external_id, m.message_id) AS "providerId",
    GREATEST(m.timestamp, m.reaction_timestamp, m.edited_at) AS changed, m.reaction,
    COALESCE(m.edited, false) AS edited, m.media_url, m.media_metadata AS metadata, m.quoted_message AS quoted"""

#: What is written into a payload for the workers alone.
_INTERNAL = {"quoted_provider_id", "target_provider_id"}
_INTERNAL_MEDIA = {"key", "fetch", "refused"}


def told(row: Row, chat_id: str, media_base: str) -> Row:
    """A message, of the columns `OURS` or `THEIRS`, as callers are told of it."""
    common = {name: row[name] for name in ("messageId", "companyId", "phoneIndex", "fromMe", "kind", "status")}
    return (
        common
        | {"chatId": chat_id, "direction": "outbound" if row["fromMe"] else "inbound"}
        | {"reaction": row["reaction"], "edited": row["edited"], "providerId": row["providerId"]}
        | {"timestamp": utc(row["moment"]), "updatedAt": utc(row["changed"])}
        | (_ours(row, media_base) if "payload" in row else _theirs(row))
    )


def _ours(row: Row, media_base: str) -> Row:
    payload, code, reason = row["payload"], row["code"], row["reason"]
    shown = {name: value for name, value in payload.items() if name not in _INTERNAL}
    if "media" in shown:
        shown["media"] = {name: value for name, value in shown["media"].items() if name not in _INTERNAL_MEDIA}
    quoted = payload.get("quoted_provider_id")
    return {
        "payload": shown,
        "body": payload.get("message") or payload.get("caption") or payload.get("templateName"),
        "media": _our_file(row, payload, media_base) if "media" in payload else None,
        "replyTo": {"id": quoted} if quoted else None,
        "author": payload.get("userName"),
        "statuses": [{"status": Status.QUEUED, "at": utc(row["moment"])}, *_statuses(row["timeline"])],
        "attempts": row["attempts"],
        "error": {"code": code, "reason": reason} if code or reason else None,
        "hold": holds.told(row["hold"]) if row["hold"] else None,
    }


def _our_file(row: Row, payload: Row, media_base: str) -> Row:
    media = payload["media"]
    url = media.get("link") or f"{media_base}/api/v2/media/{row['companyId']}/{row['messageId']}"
    named = payload.get("filename") or media.get("filename")
    return _file(media | {"filename": named, "voice": payload.get("voice")}, url)


def _theirs(row: Row) -> Row:
    metadata = row["metadata"] if isinstance(row["metadata"], dict) else {}
    content, quoted = metadata.get("content"), row["quoted"]
    quoted_id = quoted.get("id") if isinstance(quoted, dict) else None
    return {
        "payload": content if isinstance(content, dict) else {},
        "body": row["body"],
        "media": _file(metadata, row["media_url"]) if row["media_url"] or _type(metadata) else None,
        "replyTo": {"id": quoted_id} if isinstance(quoted_id, str) else None,
        "author": row["author"],
        "statuses": [],
        "attempts": 0,
        "error": None,
        "hold": None,
    }


def _file(about: Row, url: str | None) -> Row:
    """A file as we, the provider or the old system described it."""
    size = about.get("size")
    return {
        "url": url,
        "mimeType": _type(about),
        "filename": _string(about.get("filename")),
        "size": size if isinstance(size, int) else None,
        "sha256": _string(about.get("sha256")),
        "voice": about.get("voice") is True,
    }


def _type(about: Row) -> str | None:
    return _string(about.get("mimeType") or about.get("mimetype"))


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_STAGES = {status: place for place, status in enumerate(Status)} | {Status.QUEUED: 0, Status.WAITING: 0}


def _statuses(timeline: list[Row]) -> list[Row]:
    """The timeline in the order of a message's life; the provider's reports may have come in another."""
    entries = sorted(timeline, key=lambda entry: _STAGES[Status(entry["status"])])
    return [
        {"reason" if name == "error" else name: value for name, value in entry.items()}
        | {"at": utc(datetime.fromisoformat(entry["at"]))}
        for entry in entries
    ]
