"""Parsing of requests to send, before any look-up in the database."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.messages import sends
from services.http_server.errors import ApiError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def parse(body, chat="60123456789", company="0128", key=None, wait=None, kind="text"):
    return sends.parse(kind, company, chat, body if isinstance(body, bytes) else orjson.dumps(body), key, wait)


def refused(*args, **kwargs):
    with pytest.raises(ApiError) as raised:
        parse(*args, **kwargs)
    return raised.value.status, raised.value.code


def test_the_legacy_call_is_understood():
    send = parse({"message": "Hello", "phoneIndex": "1", "userName": "Ana"}, chat="0128-60123456789")
    assert (send.chat_id, send.phone_index, send.payload) == (
        "60123456789", 1, {"message": "Hello", "userName": "Ana"},
    )  # fmt: skip
    assert (send.idempotency_key, send.wait) == (None, 0.0)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"", "invalid_json"),
        (b'{"message": "\\ud800"}', "invalid_json"),
        ([], "invalid_json"),
        ({}, "invalid_request"),
        ({"message": None}, "invalid_request"),
        ({"message": 5}, "invalid_request"),
        ({"message": ""}, "invalid_request"),
        ({"message": "a\0b"}, "invalid_request"),
        ({"message": "x" * 4097}, "text_too_long"),
        ({"message": "x", "phoneIndex": -1}, "invalid_request"),
        ({"message": "x", "phoneIndex": True}, "invalid_request"),
        ({"message": "x", "phoneIndex": "one"}, "invalid_request"),
        ({"message": "x", "phoneIndex": 1.0}, "invalid_request"),
        ({"message": "x", "phoneIndex": None}, "invalid_request"),
        ({"message": "x", "userName": 7}, "invalid_request"),
    ],
)
def test_bad_bodies_are_refused_with_their_own_code(body, code):
    assert refused(body) == (400, code)


def test_the_longest_text_is_accepted():
    assert len(parse({"message": "ü" * 4096}).payload["message"]) == 4096


def test_chat_key_and_wait_are_checked():
    assert refused({"message": "x"}, chat="nobody") == (400, "invalid_chat_id")
    assert refused({"message": "x"}, key="") == (400, "invalid_request")
    assert refused({"message": "x"}, key="k" * 256) == (400, "invalid_request")
    for wait in ("-1", "31", "soon", "nan", "inf", "", "1_0", "\u0661", " 1", "1e1", "+1", "0x1"):
        assert refused({"message": "x"}, wait=wait) == (400, "invalid_request")
    assert parse({"message": "x"}, key="k" * 255, wait="30").wait == 30.0


@given(json_values | st.dictionaries(st.sampled_from(["message", "phoneIndex", "userName"]), json_values))
def test_any_json_is_either_a_send_or_a_clear_refusal(value):
    try:
        send = parse(value)
    except ApiError as error:
        assert error.status == 400
        assert error.message
    else:
        assert 1 <= len(send.payload["message"]) <= 4096


@given(st.binary(max_size=200))
def test_any_bytes_are_either_a_send_or_a_clear_refusal(body):
    try:
        parse(body)
    except ApiError as error:
        assert error.status == 400


def test_the_same_request_has_the_same_digest_however_it_is_written():
    first = parse(b'{"message": "x", "userName": "a"}', key="k")
    again = parse(b'{ "userName":"a","message":"x"}', chat="+60123456789", key="k")
    other = parse(b'{"message": "y", "userName": "a"}', key="k")
    assert sends.digest(first) == sends.digest(again) != sends.digest(other)


def template(**more):
    return {"templateName": "order_ready", "language": "en_US"} | more


def test_a_template_has_its_variables_as_texts():
    send = parse(template(variables=["Aina", 17, 2.5], userName=""), kind="template")
    assert send.kind == "template"
    assert send.payload == {"templateName": "order_ready", "language": "en_US", "variables": ["Aina", "17", "2.5"]}


def test_components_are_kept_as_they_are():
    components = [{"type": "header", "parameters": [{"type": "image", "image": {"link": "https://example.com/a"}}]}]
    assert parse(template(components=components), kind="template").payload["components"] == components


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"templateName": None}, "invalid_request"),
        ({"language": 5}, "invalid_request"),
        ({"variables": "Aina"}, "invalid_request"),
        ({"variables": [{}]}, "invalid_request"),
        ({"variables": [True]}, "invalid_request"),
        ({"variables": ["x"] * 101}, "invalid_request"),
        ({"variables": ["x" * 40_000]}, "text_too_long"),
        ({"variables": ["a\0b"]}, "invalid_request"),
        ({"components": ["header"]}, "invalid_request"),
        ({"components": [{"type": "body", "parameters": [{"text": "a\0"}]}]}, "invalid_request"),
        ({"components": [{"a\0": 1}]}, "invalid_request"),
    ],
)
def test_a_wrong_template_is_refused(more, code):
    assert refused(template(**more), kind="template") == (400, code)


@given(json_values | st.dictionaries(st.sampled_from([*template(variables=[]), "components", "x"]), json_values))
def test_any_json_is_either_a_template_or_a_clear_refusal(value):
    try:
        payload = parse(value, kind="template").payload
    except ApiError as error:
        assert error.status == 400
        assert error.message
    else:
        assert all(isinstance(each, str) for each in payload["variables"])
        assert "\\u0000" not in orjson.dumps(payload).decode().replace("\\\\", "")


def test_a_file_of_ours_is_known_by_its_content():
    def digest(**media):
        send = parse({"message": "x"}, key="k")
        send.payload["media"] = media
        return sends.digest(send)

    assert digest(key="0128/2026-01/a.png", sha256="a") == digest(key="0128/2026-02/a.png", sha256="a")
    assert digest(key="0128/2026-01/a.png", sha256="a") != digest(key="0128/2026-01/a.png", sha256="b")
    assert digest(link="https://example.com/a") != digest(link="https://example.com/b")
