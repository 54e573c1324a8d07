"""`docs/reference/events.md`: every event with its payload."""

import json
import types
import typing

from markdown_table import table

from services.api.event_schemas import event_example
from services.events.names import CATALOGUE
from services.events.payloads import CALL_HEADERS, PAYLOADS, Payload, example

INTRODUCTION = """\
# Events

Every event that webhooks and the stream carry, with its payload.

[Webhooks and stream](webhooks.md) has the rules of delivery. The OpenAPI document of the API describes the same under \
`webhooks`.

## The envelope

Webhooks and the stream carry the same JSON:
"""

ENVELOPE = (
    ("`id`", "The event; the same in every attempt to deliver it, and in a replay."),
    ("`timestamp`", "When it happened, in milliseconds since the epoch."),
    ("`event`", "Its name."),
    ("`session`", "The bot: `<company>-<phoneIndex>`."),
    ("`company`", "The company."),
    ("`payload`", "Described below, for each name."),
)

HEADERS = """\
## The headers of a webhook

A call of a webhook has these headers. [Receive events](../how-to/receive-events.md) shows how to verify the signature.
"""

#: Names of types as readers of JSON know them.
TYPES = {str: "string", int: "integer", bool: "boolean", dict: "object"}


def render() -> str:
    """The page."""
    groups: dict[type[Payload], list[str]] = {}
    for name in CATALOGUE:
        groups.setdefault(PAYLOADS[name], []).append(name)
    return "\n".join([
        INTRODUCTION,
        _json(event_example("message")),
        table(("field", "meaning"), ENVELOPE) + "\n",
        HEADERS,
        table(("header", "meaning"), [(f"`{name}`", about) for name, about in CALL_HEADERS.items()]) + "\n",
        *(_section(payload, names) for payload, names in groups.items()),
    ]).rstrip("\n") + "\n"  # fmt: skip


def _section(payload: type[Payload], names: list[str]) -> str:
    titles = ", ".join(f"`{name}`" for name in names)
    about = "\n".join(f"- `{name}`: {CATALOGUE[name]}" for name in names) if len(names) > 1 else CATALOGUE[names[0]]
    return f"## {titles}\n\n{about}\n\n{_json(example(payload))}\n{_fields(payload)}\n"


def _fields(payload: type[Payload]) -> str:
    return table(("field", "type", "meaning"), _rows(payload))


def _rows(payload: type[Payload], prefix: str = "") -> list[tuple[str, str, str]]:
    rows = []
    for name, field in payload.model_fields.items():
        nested = next((each for each in _alternatives(field.annotation) if _is_payload(each)), None)
        title = f"{prefix}{field.alias or name}"
        type_ = _type(field.annotation) + ("" if field.is_required() else ", may be missing")
        rows.append((f"`{title}`", type_, field.description or ""))
        if nested is not None:
            rows += _rows(nested, f"{title}.")
    return rows


def _alternatives(annotation: object) -> tuple[object, ...]:
    return typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)


def _is_payload(annotation: object) -> typing.TypeGuard[type[Payload]]:
    return isinstance(annotation, type) and issubclass(annotation, Payload)


def _type(annotation: object) -> str:
    found = []
    for each in _alternatives(annotation):
        if typing.get_origin(each) is typing.Literal:
            found += [f"`{json.dumps(value)}`" for value in typing.get_args(each)]
        elif each is types.NoneType:
            found.append("null")
        else:
            plain = typing.get_origin(each) or each
            found.append(TYPES.get(plain, "object") if isinstance(plain, type) else "object")
    return " or ".join(found) if len(found) < 3 else ", ".join(found)


def _json(value: object) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```\n"
