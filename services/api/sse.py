"""Server-sent events: the request for a stream, the event after which it continues, and the form of an event.

The form is that of the HTML standard (section 9.2). Each event has its own ID. An ID `seq_<number>` names a position
between events, so that a client that reconnects continues there even if no event had been sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from services.api.auth import Principal, company_of
from services.database.connection import Connection
from services.events import feed, webhooks
from services.events.feed import POSITION, EventFilter
from services.events.names import CATALOGUE, unknown
from services.events.store import Event
from services.http_server.error_codes import ErrorCode
from services.http_server.errors import ApiError

#: Milliseconds after which a disconnected client reconnects.
RETRY_MILLISECONDS = 2000
#: Events that are read together.
BATCH = 100
#: Characters in a Last-Event-ID, in a session or in the list of names.
MAX_PARAMETER = 1000

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx does not buffer the answer
}
KEEP_ALIVE = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A request for a stream."""

    filter: EventFilter
    last_id: str | None  # the ID that the client received last; None: from now on


def parse(
    principal: Principal, company: str | None, events: str | None, session: str | None, last_id: str | None
) -> StreamRequest:
    """Check a request for a stream; `events`: names with commas between. Raises `ApiError`."""
    for name, value in {"company": company, "events": events, "session": session, "lastEventId": last_id}.items():
        if value is not None and (len(value) > MAX_PARAMETER or "\0" in value):
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{name}: too long, or not a text")
    owner = company_of(principal, company or None)
    return StreamRequest(EventFilter(owner, _names(events), session or None), last_id or None)


def _names(events: str | None) -> Sequence[str] | None:
    names = [name.strip() for name in (events or "").split(",") if name.strip()]
    if wrong := unknown(names):
        raise ApiError(
            ErrorCode.INVALID_REQUEST, f"events: there is no event {wrong[0]}; there are: {', '.join(CATALOGUE)}"
        )
    return None if not names or "*" in names else names


def begin(connection: Connection, request: StreamRequest, days: int) -> tuple[int, bytes]:
    """The number after which the stream continues, and its first bytes. Events are kept for `days`."""
    company = request.filter.company_id
    webhooks.open_feed(connection, company)
    if request.last_id is None:
        start = feed.last(connection, [company]).get(company, 0)
        return start, b"retry: %d\n%b" % (RETRY_MILLISECONDS, position_id(start))
    found = feed.resume(connection, company, request.last_id, days)
    if found is not None:
        return found, b"retry: %d\n\n" % RETRY_MILLISECONDS
    start = feed.oldest(connection, company, days)
    reset = {"reason": "events after the Last-Event-ID are no longer kept; the stream continues with the oldest"}
    return start, b"retry: %d\n\n%b" % (RETRY_MILLISECONDS, _block("reset", POSITION + str(start), orjson.dumps(reset)))


def position_id(seq: int) -> bytes:
    """Sends the client its position; not an event."""
    return f"id: {POSITION}{seq}\n\n".encode()


def event_block(event: Event) -> bytes:
    """An event in the form of the stream."""
    return _block(event.name, event.event_id, event.envelope())


def _block(name: str, event_id: str, data: bytes) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), data)
