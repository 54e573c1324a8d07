"""The part of the OpenAPI document about events: `webhooks`, and the schemas of the payloads."""

from typing import Any

from pydantic.json_schema import models_json_schema

from services.events.names import CATALOGUE
from services.events.payloads import CALL_HEADERS, PAYLOADS, Payload, example

_REF = "#/components/schemas/{model}"
_EVENT_ID = "evt_01JZX4M3C8N7Q2V5W9Y1T6R4PK"


def payload_schemas() -> dict[str, Any]:
    """The schemas of all payloads, by name of the model."""
    models = [(model, "validation") for model in dict.fromkeys(PAYLOADS.values())]
    return dict(models_json_schema(models, ref_template=_REF)[1]["$defs"])  # type: ignore[arg-type]


def webhooks() -> dict[str, Any]:
    """The calls that a webhook receives, by name of the event."""
    return {name: {"post": _call(name, about, PAYLOADS[name])} for name, about in CATALOGUE.items()}


def event_example(name: str) -> dict[str, Any]:
    """An example of an event, as webhooks and the stream carry it."""
    head = {"id": _EVENT_ID, "timestamp": 1738310400125, "event": name, "session": "0128-0", "company": "0128"}
    return head | {"payload": example(PAYLOADS[name])}


def _call(name: str, about: str, payload: type[Payload]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["id", "timestamp", "event", "session", "company", "payload"],
        "properties": {
            "id": {"type": "string", "description": "The event; the same in every attempt to deliver it."},
            "timestamp": {"type": "integer", "description": "When it happened, in milliseconds since the epoch."},
            "event": {"const": name},
            "session": {"type": "string", "description": "`<company>-<phoneIndex>`."},
            "company": {"type": "string", "description": "The company."},
            "payload": {"$ref": _REF.format(model=payload.__name__)},
        },
    }
    return {
        "summary": about,
        "operationId": f"on_{name.replace('.', '_')}",
        "tags": ["webhooks"],
        "parameters": [
            {
                "name": header,
                "in": "header",
                "required": header != "X-Webhook-Hmac-Previous",
                "description": meaning,
                "schema": {"type": "string"},
            }
            for header, meaning in CALL_HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": event_example(name)}},
        },
        "responses": {
            "2XX": {"description": "The event is delivered."},
            "410": {"description": "The webhook does not want the event: it is not sent again."},
            "default": {"description": "The event is sent again after a growing pause, for a day."},
        },
    }
