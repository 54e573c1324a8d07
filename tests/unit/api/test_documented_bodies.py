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


MODELS: dict[str, type[BaseModel]] = {
    "text": TextMessage, "template": TemplateMessage, "image": ImageMessage, "video": VideoMessage,
    "audio": AudioMessage, "document": DocumentMessage, "sticker": StickerMessage, "reaction": ReactionRequest,
    "read": ReadRequest, "edit": EditRequest, "delete": DeleteRequest,
}  # fmt: skip


@pytest.mark.parametrize("kind", request_fields.NAMES)
def test_the_document_has_the_fields_that_are_read_and_forbids_others(kind: str) -> None:
    schema = MODELS[kind].model_json_schema()
    assert schema["properties"].keys() == request_fields.NAMES[kind]
    assert schema["additionalProperties"] is False


UNFIT = ["a\nb", "a\r\nb", "a\rb", "a\tb", "a     b", "\n", "ends\n"]
FIT = ["a", "a    b", "a b    c    d", "\u2028", "\u00a0" * 6, "x" * 1000]


@pytest.mark.parametrize("text", UNFIT)
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", ["variables", "body", "BODY", "header"])
def test_template_parameters_that_meta_refuses_are_refused_at_once(kind: str, named: bool, text: str) -> None:
    parameter = {"type": "text", "text": text} | ({"parameter_name": "x"} if named else {})
    fields = {"templateName": "x", "language": "en"}
    components = [{"type": kind, "parameters": [parameter]}]
    more = {"variables": ["a", text]} if kind == "variables" else {"components": components}
    with pytest.raises(ApiError, match="line breaks, tabs or more than four spaces in a row") as raised:
        request_fields.template(fields | more)
    assert (raised.value.status, raised.value.code) == (400, "invalid_request")


@pytest.mark.parametrize("text", FIT)
def test_other_template_parameters_are_accepted(text: str) -> None:
    fields = {"templateName": "x", "language": "en"}
    assert request_fields.template(fields | {"variables": [text]})["variables"] == [text]
    components = [{"type": "body", "parameters": [{"type": "text", "text": text}]}]
    assert request_fields.template(fields | {"components": components})["components"] == components


def nested(depth: int, leaf: Any = "x", in_list: bool = False) -> Any:
    """A value within this many objects or lists."""
    for _ in range(depth):
        leaf = [leaf] if in_list else {"a": leaf}
    return leaf


@pytest.mark.parametrize("in_list", [False, True])
@pytest.mark.parametrize("depth", [40, 41, 250, 254, 255, 900, 1010])
def test_components_may_not_be_nested_without_end(depth: int, in_list: bool) -> None:
    components = [{"type": "body", "x": nested(depth, in_list=in_list)}]
    with pytest.raises(ApiError, match="nested more than 40 levels deep"):
        request_fields.template({"templateName": "x", "language": "en", "components": components})


@pytest.mark.parametrize("leaf", ["a\0b", float("inf"), float("nan")])
def test_components_that_would_be_stored_otherwise_are_refused(leaf: Any) -> None:
    for value in (nested(5, leaf), nested(5, leaf, in_list=True)):
        with pytest.raises(ApiError, match="components contain"):
            request_fields.template(
                {"templateName": "x", "language": "en", "components": [{"type": "body", "x": value}]}
            )
