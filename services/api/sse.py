"""Events as a stream of server-sent events: what is asked for, where it goes on, and how an event is written.

The form is that of the HTML standard (section 9.2). The id of each event is its own; `seq_<number>` names a place
between events, so that whoever reconnects goes on there even where nothing had been sent.
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

#: Milliseconds before a client whose connection ended connects again.
RETRY = 2000
#: Events that are looked at together.
BATCH = 100
#: Characters of a Last-Event-ID, of a session and of the list of names, at most.
LONGEST = 1000

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx passes on what there is
}
KEEP_ALIVE = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A request for a stream."""

    wish: EventFilter
    last_id: str | None  # what was seen last; None: from now on


def parse(
    principal: Principal, company: str | None, events: str | None, session: str | None, last_id: str | None
) -> StreamRequest:
    """Check a request for a stream; `events`: names with commas between. Raises `ApiError`."""
    for name, value in {"company": company, "events": events, "session": session, "lastEventId": last_id}.items():
        if value is not None and (len(value) > LONGEST or "\0" in value):
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{name}: too long, or no text")
    owner = company_of(principal, company or None)
    return StreamRequest(EventFilter(owner, _names(events), session or None), last_id or None)


def _names(events: str | None) -> Sequence[str] | None:
    names = [name.strip() for name in (events or "").split(",") if name.strip()]
    if wrong := unknown(names):
        raise ApiError(
            ErrorCode.INVALID_REQUEST, f"events: there is no event {wrong[0]}; there are: {', '.join(CATALOGUE)}"
        )
    return None if not names or "*" in names else names


def begin(connection: Connection, asked: StreamRequest, days: int) -> tuple[int, bytes]:
    """The number after which the stream goes on, and what it begins with. Events are kept for `days`."""
    company = asked.wish.company_id
    webhooks.open_feed(connection, company)
    if asked.last_id is None:
        start = feed.last(connection, [company]).get(company, 0)
        return start, b"retry: %d\n%b" % (RETRY, place(start))
    found = feed.resume(connection, company, asked.last_id, days)
    if found is not None:
        return found, b"retry: %d\n\n" % RETRY
    start = feed.oldest(connection, company, days)
    told = {"reason": "events after the Last-Event-ID are not kept any more; what follows begins with the oldest"}
    return start, b"retry: %d\n\n%b" % (RETRY, _block("reset", POSITION + str(start), orjson.dumps(told)))


def place(seq: int) -> bytes:
    """Tells the client where it is; not an event."""
    return f"id: {POSITION}{seq}\n\n".encode()


def written(event: Event) -> bytes:
    """An event as the stream has it."""
    return _block(event.name, event.event_id, event.envelope())


def _block(name: str, event_id: str, data: bytes) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), data)
