"""The stream of events as a Flask route: documents the stream, and answers if no event loop is in front.

Otherwise `services.api.event_stream` serves it. Here the answer ends after the stored events, and clients reconnect.
"""

from flask import Response, g
from pydantic import Field

from services.api import sse
from services.api.auth import Auth, context, resource
from services.api.event_stream import PATH
from services.api.model import Model
from services.api.openapi import problems
from services.api.schemas.base import CompanyId
from services.events import feed
from services.events.names import CATALOGUE

events = resource("events", "Follow events as they happen.", Auth.KEY)

_EXAMPLE = (
    "retry: 2000\nid: seq_41\n\nid: evt_01JZX4M3C8N7Q2V5W9Y1T6R4PK\nevent: message\n"
    'data: {"id":"evt_01JZX4M3C8N7Q2V5W9Y1T6R4PK","timestamp":1738310400125,"event":"message",'
    '"session":"0128-0","company":"0128","payload":{…}}\n\n'
)


class EventsQuery(Model):
    """Filters events."""

    company: CompanyId | None = Field(None, description="The company; required with an operator's key.")
    events: str | None = Field(
        None,
        max_length=sse.MAX_PARAMETER,
        description=f"Names, separated by commas; by default all: {', '.join(CATALOGUE)}.",
        json_schema_extra={"example": "message,message.ack"},
    )
    session: str | None = Field(
        None,
        max_length=sse.MAX_PARAMETER,
        description="Only events of this bot.",
        json_schema_extra={"example": "0128-0"},
    )
    lastEventId: str | None = Field(
        None, max_length=sse.MAX_PARAMETER, description="The same as the header Last-Event-ID, which takes precedence."
    )


class EventsHeaders(Model):
    """The position from which the stream continues."""

    last_event_id: str | None = Field(
        None,
        alias="Last-Event-ID",
        max_length=sse.MAX_PARAMETER,
        description="The ID that was received last; later events are sent first. Browsers send it themselves.",
    )


@events.get(
    PATH,
    summary="Stream of events",
    description=(
        "Server-sent events that never end: each event of the company with its ID, its name and, as data, the same "
        "JSON that webhooks receive. A client that reconnects with `Last-Event-ID` misses no event and receives none "
        "twice. If events after that ID are no longer kept (EVENTS_KEEP_DAYS), an event `reset` is sent first, then "
        "the events that are kept. A comment is sent every 15 seconds. A company may have 20 streams open at each API "
        "process."
    ),
    responses={
        200: {
            "description": "The stream.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **problems("invalid_request", "too_many_streams"),
    },
)
def stream(query: EventsQuery, header: EventsHeaders) -> Response:
    """The stored events, up to a batch."""
    request = sse.parse(
        g.principal, query.company, query.events, query.session, header.last_event_id or query.lastEventId
    )
    with context().database.connection() as connection:
        start, preface = sse.begin(connection, request, context().settings.events_keep_days)
        found, _ = feed.read(connection, request.filter, start, sse.BATCH)
    return Response(preface + b"".join(sse.event_block(event) for _, event in found), headers=sse.HEADERS)
