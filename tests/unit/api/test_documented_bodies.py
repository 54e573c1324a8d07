"""The bodies that the API reads by hand are as the OpenAPI document describes them.

A body that the hand-written checks accept is valid by the documented model. The one exception is not tested: a form may
write false as an empty string.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from services.api.messages import request_fields
from services.api.messages.request_fields import (
    MAX_IDEMPOTENCY_KEY,
    MAX_LANGUAGE,
    MAX_PARTS,
    MAX_REACTION,
    MAX_SHORT,
    MAX_TEMPLATE,
    MAX_WAIT_SECONDS,
    Fields,
)
from services.api.schemas.base import SendHeaders, SendQuery
from services.api.schemas.sends import (
    AudioMessage,
    DeleteRequest,
    DocumentMessage,
    EditRequest,
    ImageMessage,
    ReactionRequest,
    ReadRequest,
    StickerMessage,
    TemplateMessage,
    TextMessage,
    VideoMessage,
)
from services.connectors.limits import MAX_CAPTION
from services.http_server.errors import ApiError
from services.message import MAX_TEXT

junk = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.none())
)
flags = st.booleans() | st.sampled_from(["true", "TRUE", "false", "1", "0"]) | junk
phone_indexes = st.integers(-1, 10**9) | st.integers(0, 10**10).map(str) | junk


def texts(limit: int) -> st.SearchStrategy[Any]:
    """Texts about as long as the limit, and values that are no texts."""
    edges = st.sampled_from(["", "x" * (limit - 1), "x" * limit, "x" * (limit + 1), "a\0b"])
    return st.text(max_size=5) | edges | junk


FIELDS = {
    "message": texts(MAX_TEXT),
    "newMessage": texts(MAX_TEXT),
    "caption": texts(MAX_CAPTION),
    "userName": texts(MAX_SHORT),
    "quotedMessageId": texts(MAX_SHORT),
    "filename": texts(MAX_SHORT),
    "templateName": texts(MAX_TEMPLATE),
    "language": texts(MAX_LANGUAGE),
    "reaction": texts(MAX_REACTION),
    "mentions": st.lists(st.sampled_from(["60123456789", "+60 12", "1@lid", "x"]), max_size=3)
    | st.just(["60123456789"] * (MAX_PARTS + 1)) | junk,
    "variables": st.lists(texts(5), max_size=3) | st.just(["x"] * (MAX_PARTS + 1)) | junk,
    "components": st.lists(st.dictionaries(st.text(max_size=3), junk, max_size=2), max_size=2) | junk,
    "voice": flags,
    "typing": flags,
    "deleteForEveryone": flags,
    "phoneIndex": phone_indexes,
}  # fmt: skip


def of_file(url: str) -> Callable[[Fields], object]:
    """The checks of a message with a file whose link is the field `url`."""
    return lambda fields: (
        request_fields.required(fields, url, 100),
        request_fields.captioned(fields),
        request_fields.optional(fields, "filename"),
        request_fields.flag(fields, "voice"),
        request_fields.phone_index(fields),
    )


CHECKS: dict[type[BaseModel], Callable[[Fields], object]] = {
    TextMessage: lambda fields: (request_fields.text(fields), request_fields.phone_index(fields)),
    TemplateMessage: lambda fields: (request_fields.template(fields), request_fields.phone_index(fields)),
    ImageMessage: of_file("imageUrl"),
    VideoMessage: of_file("videoUrl"),
    AudioMessage: of_file("audioUrl"),
    DocumentMessage: of_file("documentUrl"),
    StickerMessage: of_file("stickerUrl"),
    ReactionRequest: lambda fields: (
        request_fields.reaction(fields),
        request_fields.named_phone_index(fields),
    ),
    ReadRequest: lambda fields: (request_fields.flag(fields, "typing"), request_fields.named_phone_index(fields)),
    EditRequest: lambda fields: (
        request_fields.required(fields, "newMessage", MAX_TEXT),
        request_fields.named_phone_index(fields),
    ),
    DeleteRequest: lambda fields: (
        request_fields.flag(fields, "deleteForEveryone", default=True),
        request_fields.named_phone_index(fields),
    ),
}


@pytest.mark.parametrize("model", CHECKS, ids=lambda model: model.__name__)
@given(st.data())
def test_a_body_that_is_accepted_is_valid_by_the_document(model: type[BaseModel], data: st.DataObject) -> None:
    fields: Fields = {name: "x" for name, field in model.model_fields.items() if field.is_required()}
    for name in data.draw(st.sets(st.sampled_from(sorted(model.model_fields)), max_size=2)):
        fields[name] = data.draw(FIELDS.get(name, texts(100)), label=name)
    try:
        CHECKS[model](fields)
    except ApiError:
        return
    model.model_validate(fields)


@pytest.mark.parametrize(
    ("model", "name", "limit"),
    [
        (TextMessage, "message", MAX_TEXT),
        (TextMessage, "userName", MAX_SHORT),
        (TextMessage, "quotedMessageId", MAX_SHORT),
        (ImageMessage, "caption", MAX_CAPTION),
        (DocumentMessage, "filename", MAX_SHORT),
        (TemplateMessage, "templateName", MAX_TEMPLATE),
        (TemplateMessage, "language", MAX_LANGUAGE),
        (ReactionRequest, "reaction", MAX_REACTION),
        (EditRequest, "newMessage", MAX_TEXT),
        (SendHeaders, "Idempotency-Key", MAX_IDEMPOTENCY_KEY),
    ],
)
def test_the_document_has_the_limits_of_the_checks(model: type[BaseModel], name: str, limit: int) -> None:
    field = model.model_json_schema()["properties"][name]
    assert {each.get("maxLength", limit) for each in [field, *field.get("anyOf", ())]} == {limit}
    assert "maxLength" in str(field)


def test_the_document_has_the_longest_wait() -> None:
    assert f"'maximum': {MAX_WAIT_SECONDS:g}" in str(SendQuery.model_json_schema())
