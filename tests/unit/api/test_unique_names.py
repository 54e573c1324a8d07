"""A name that occurs twice in one object of a body is refused, at any depth and in any spelling."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.messages.request_fields import json_object
from services.http_server.errors import ApiError

BLANKS = st.sampled_from(["", " ", "\n", "\t", "\r", "  ", " \n"])
NAMES = st.sampled_from(["a", "b", "", ":", '"', '":', " :", "{", "é", "\\"])
TEXTS = NAMES | st.sampled_from(["http://x.example/", "at 10:30", "smile :)", '"a":1', '{"a":1,"a":2}', ":" * 9])
VALUES = st.recursive(
    TEXTS | st.sampled_from([1, 1.5, None, True, 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=4).map(tuple),
    max_leaves=8,
)
OBJECTS = st.lists(st.tuples(NAMES, VALUES), max_size=5).map(tuple)  # a tuple is an object, its pairs in order


def written(value, draw):
    """The JSON of a value, with blanks around its signs and escapes in its names."""
    if isinstance(value, tuple):
        pairs = [
            draw(BLANKS) + name_of(name, draw) + draw(BLANKS) + ":" + draw(BLANKS) + written(inner, draw)
            for name, inner in value
        ]
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(each, draw) for each in value) + "]"
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


def name_of(name, draw):
    if draw(st.booleans()):
        return json.dumps(name)
    return '"' + "".join(f"\\u{ord(each):04x}" for each in name) + '"'


def is_unique(value):
    if isinstance(value, tuple):
        names = [name for name, _ in value]
        return len(set(names)) == len(names) and all(is_unique(inner) for _, inner in value)
    return all(is_unique(each) for each in value) if isinstance(value, list) else True


@given(OBJECTS, st.data())
def test_a_body_is_refused_exactly_if_an_object_has_a_name_twice(value, data):
    body = written(value, data.draw).encode()
    if is_unique(value):
        assert json_object(body) == orjson.loads(body)
    else:
        with pytest.raises(ApiError) as refused:
            json_object(body)
        assert (refused.value.status, refused.value.code) == (400, "invalid_request")
        assert "is given more than once in an object" in str(refused.value)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"message":"a","message":"b"}', "message"),
        (b'{"message":"a","mess\\u0061ge":"b"}', "message"),
        (b'{"components":[{"type":"body","type":"header"}]}', "type"),
        (b'{"a":1,"a":1,"b\\u0000":":"}', "a"),
        (b'{"\\u0007":1,"\\u0007":1}', "?"),
        (b'{"":1,"":1}', '""'),
    ],
)
def test_the_error_names_the_name(body, name):
    with pytest.raises(ApiError, match=f"^{name.replace('?', '[?]')} is given more than once"):
        json_object(body)


def test_many_levels_are_read_or_refused():
    for levels in (200, 1000):
        body = b'{"a":' * levels + b'" :"' + b"}" * levels
        try:
            assert json_object(body) == orjson.loads(body)
        except ApiError as refused:
            assert refused.code == "invalid_json"
            assert levels == 1000
