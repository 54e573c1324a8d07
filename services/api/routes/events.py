"""The stream of events as a Flask route: documents it, and answers where no event loop is in front.

`services.api.event_stream` serves it otherwise. Here the answer ends after the stored events; clients reconnect by
themselves.
"""

from flask import Response, g
from pydantic import BaseModel, Field

from services.api import sse
from services.api.auth import Auth, context, resource
from services.api.event_stream import PATH
from services.api.openapi import problems
from services.api.schemas.base import CompanyId
from services.events import feed
from services.events.names import CATALOGUE

events = resource("events", "Follow what happens as it happens.", Auth.KEY)

_EXAMPLE = (
    "retry: 2000\nid: seq_41\n\nid: evt_01JZX4M3C8N7Q2V5W9Y1T6R4PK\nevent: message\n"
    'data: {"id":"evt_01JZX4M3C8N7Q2V5W9Y1T6R4PK","timestamp":1738310400125,"event":"message",'
    '"session":"0128-0","company":"0128","payload":{…}}\n\n'
)


class EventsQuery(BaseModel):
    """Which events."""

    company: CompanyId | None = Field(None, description="Asked of operators alone.")
    events: str | None = Field(
        None,
        max_length=sse.LONGEST,
        description=f"Names with commas between; without it, all: {', '.join(CATALOGUE)}.",
        json_schema_extra={"example": "message,message.ack"},
    )
    session: str | None = Field(
        None, max_length=sse.LONGEST, description="Of one number alone.", json_schema_extra={"example": "0128-0"}
    )
    lastEventId: str | None = Field(
        None, max_length=sse.LONGEST, description="As the header Last-Event-ID, which wins."
    )


class EventsHeaders(BaseModel):
    """Where to go on."""

    last_event_id: str | None = Field(
        None,
        alias="Last-Event-ID",
        max_length=sse.LONGEST,
        description="The id that was seen last: what came after it is sent first. Browsers send it by themselves.",
    )


@events.get(
    PATH,
    summary="Stream of events",
    description=(
        "Server-sent events that never end: each event of the company with its id, its name and, as data, the same "
        "JSON that webhooks get. A client that connects again with `Last-Event-ID` misses none and sees none twice. "
        "Where events after that id are not kept any more (EVENTS_KEEP_DAYS), an event `reset` comes first, and then "
        "what is kept. A comment is sent every 15 seconds. Twenty streams of a company may be open at each API process."
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
    """What there is, up to a batch of it."""
    asked = sse.parse(
        g.principal, query.company, query.events, query.session, header.last_event_id or query.lastEventId
    )
    with context().database.connection() as connection:
        start, preface = sse.begin(connection, asked, context().settings.events_keep_days)
        found, _ = feed.read(connection, asked.wish, start, sse.BATCH)
    return Response(preface + b"".join(sse.written(event) for _, event in found), headers=sse.HEADERS)
